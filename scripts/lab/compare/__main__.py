"""scripts/compare: the order of a run. It prepares, measures, writes the report, and checks the result."""

import argparse
import datetime
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..common import command, files, machine, network, prepare, processes, steady
from . import check, engines, experiments
from .results import Results
from .runner import Runner

KEPT = prepare.RESULTS / "compare"
FILES = ["report.html", "results.json", "results.csv"]


@dataclass
class Lab:
    """The settings of a run, which every measurement gets."""

    binary: Path
    load: Path
    python: Path  # runs crowd.py, and the other servers that are written in Python
    scratch: Path
    site: Path
    store: Path
    cores: tuple
    descriptors: int
    quick: bool
    max_connections: int = 10500
    capacity: dict = field(default_factory=dict)

    def pick(self, quick, full):
        return quick if self.quick else full


def main():
    options = arguments()
    return command.run("compare", lambda: act(options))


def act(options):
    if options.check:
        return check.run(options.check)
    if options.report:
        folder = options.report.parent
        write_report(prepare.private_python(["matplotlib"]), folder, options.report)
        prepare.say(f"{folder / 'report.html'}")
        return 0
    return compare(options)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/compare",
        description="Measures dustdevil's four engines side by side and writes a report: report.html, results.json, results.csv.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round of two to three minutes; without it three long rounds, about fifty minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help="measure each point N times (default: 3, with --quick: 1)")
    parser.add_argument("--against", default="", metavar="NAMES", help=f"also measure, in experiments 1, 3 and 4: {','.join(engines.RIVALS)}")
    parser.add_argument("--only", default="", metavar="NUMBERS", help="measure these experiments only, such as 1,4; the result is marked partial")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the three files here (default: target/compare)")
    command.add_keep(parser, KEPT)
    parser.add_argument("--binary", type=Path, metavar="FILE", help="measure this build instead of building one")
    parser.add_argument("--host-network", action="store_true", help="measure on this machine's own loopback, also as root")
    parser.add_argument("--report", type=Path, metavar="JSON", help="measure nothing; write report.html again, beside this results.json")
    parser.add_argument("--check", type=Path, metavar="JSON", help="measure nothing; check this results.json")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds must be positive")
    options.against = [name for name in options.against.split(",") if name]
    for name in options.against:
        if name not in engines.RIVALS:
            parser.error(f"--against {name}: choose from {', '.join(engines.RIVALS)}")
    try:
        options.only = {int(number) for number in options.only.split(",") if number}
    except ValueError:
        parser.error("--only takes numbers, such as 1,4")
    if not options.only <= set(range(1, 9)):
        parser.error("--only: the experiments are 1 to 8")
    for path in (options.check, options.report, options.binary):
        if path and not path.is_file():
            parser.error(f"{path}: no such file")
    return options


def compare(options):
    prepare.need("wrk", "strace")
    binary = options.binary.resolve() if options.binary else prepare.build_server()
    load = prepare.build_load()
    packages = ["matplotlib", "tornado"] if "tornado" in options.against else ["matplotlib"]
    python = prepare.private_python(packages)
    folder = (options.output or prepare.target() / "compare").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)  # after a failure an old report would mislead

    notes = []
    network.enter(options.host_network, notes)
    with files.scratch("compare") as scratch:
        lab = make_lab(options, binary, load, python, scratch)
        if options.keep:
            prepare.say("waiting until the machine is quiet")
            steady.await_quiet(len(lab.cores[2]))
        mode = "quick" if options.quick else "full"
        results = Results.new(
            mode=mode,
            command=" ".join(["scripts/compare", *sys.argv[1:]]),
            began=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            experiments=sorted(options.only) or list(check.NEEDED),
            servers=[*engines.ENGINES, *options.against],
            machine=machine.describe(lab.cores, lab.descriptors, lab.scratch),
            versions=machine.versions(prepare.ROOT, binary, built_here=not options.binary),
            settings={
                "rounds": options.rounds,
                "pool_size": engines.POOL_SIZE,
                "max_connections": lab.max_connections,
                "page_bytes": experiments.PAGE_SIZE,
                "upload_bytes": experiments.UPLOAD_SIZE,
                "waiting_clients": experiments.WAITING_CLIENTS,
                "size_clients": experiments.SIZE_CLIENTS,
                "cost_clients": experiments.COST_CLIENTS,
                "normal_rate": experiments.SERVICE_RATE,
                "header_timeout": engines.HEADER_TIMEOUT,
            },
        )
        began, why = time.monotonic(), ""
        runner = Runner(lab, results, results.data["servers"], options.rounds, folder)
        warn(lab, results, runner, notes)
        chosen = [e for e in experiments.all_experiments(lab) if not options.only or e.number in options.only]
        try:
            runner.run(chosen)
        except processes.Stopped as error:
            why = str(error)
            processes.end_all()
        runner.progress.finish()
        missing = check.gaps(results)
        why = why or (missing[0] if missing else "")
        if runner.left_out and not why:
            why = "The limit of open files is too low for some points."
        if options.only and not why:
            why = f"Only experiments {', '.join(map(str, sorted(options.only)))} were asked for."
        results.data |= {"state": "partial" if why else "complete", "why_partial": why, "seconds": round(time.monotonic() - began, 1)}
        results.data["machine"]["load_average_after"] = os.getloadavg()[0]
        results.save(folder)

    prepare.say("drawing the report")
    write_report(python, folder, folder / "results.json")
    code = check.run(folder / "results.json")
    took = f"{results.data['seconds'] // 60:.0f}:{results.data['seconds'] % 60:02.0f}"
    prepare.say(f"{folder / 'report.html'} ({results.data['state']}, {took})")
    if why.startswith("stopped"):
        return 130
    if options.keep:
        command.keep(folder, KEPT, FILES, why or ("the result is not right" if code else "") or why_not_kept(results))
    return code


def why_not_kept(results):
    about = results.data["machine"]
    flags = [entry["flags"] for entry in results.data["rounds"] if entry["ok"]]
    return steady.why_not_kept(about["load_average_before"], about["cores"], flags)


def make_lab(options, binary, load, python, scratch):
    site, store = scratch / "site", scratch / "store"
    site.mkdir()
    store.mkdir()
    experiments.write_site(site, scratch)
    descriptors = machine.raise_descriptor_limit()
    return Lab(
        binary=binary,
        load=load,
        python=python,
        scratch=scratch,
        site=site,
        store=store,
        cores=machine.choose_cores(),
        descriptors=descriptors,
        quick=options.quick,
        max_connections=min(10500, max(64, descriptors - 100)),
    )


def warn(lab, results, runner, notes):
    """Notes on what makes the numbers less certain."""
    for note in notes:
        runner.note(note)
    about = results.data["machine"]
    if about["cores"] == 1:
        runner.note("There is one core to use: server and load share it, and no figure is the server's alone.")
    if about["load_average_before"] > 0.5 * about["cores"]:
        runner.note(f"The machine was busy before it began (load average {about['load_average_before']:.1f}).")
    if results.data["versions"].get("changed_files"):
        runner.note(f"The server was built from a commit with {results.data['versions']['changed_files']} changed files.")


def write_report(python, folder, results):
    argv = [python, "-m", "lab.compare.report", results, folder / "report.html"]
    process = processes.start(argv, os.sched_getaffinity(0), env={**os.environ, "PYTHONPATH": str(prepare.ROOT / "scripts")}, stdin=subprocess.DEVNULL)
    process.communicate()
    code = process.returncode
    processes.end(process)
    if code:
        raise prepare.Missing(f"the report could not be drawn (exit code {code}); the numbers are in {results}")


if __name__ == "__main__":
    sys.exit(main())
