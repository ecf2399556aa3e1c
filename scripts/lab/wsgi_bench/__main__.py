"""scripts/wsgi-bench: what happens when. Prepares, measures in rounds, writes wsgi-bench.md and wsgi-bench.json."""

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..common import command, machine, measure, network, prepare, processes, servers
from ..compare.__main__ import memory_folder
from ..compare.results import write
from . import hosts, rows, table

ROOT = Path(__file__).resolve().parents[3]
FORMAT = 1
WHO = "wsgi-bench"
KEPT = ROOT / "scripts" / "results" / WHO
FILES = (f"{WHO}.md", f"{WHO}.json")


@dataclass
class Lab:
    """What every measurement needs to know. The laboratory's functions take it as theirs."""

    binary: Path
    load: Path
    python: Path
    scratch: Path
    site: Path
    cores: tuple
    descriptors: int


def main():
    options = arguments()
    return command.run(WHO, lambda: bench(options))


def arguments():
    names = [row.name for row in rows.all_rows()]
    parser = argparse.ArgumentParser(
        prog="scripts/wsgi-bench",
        description="Measures Python applications on dustdevil beside gunicorn, nginx with uWSGI, nginx with gunicorn, and waitress: CPU a "
        "request and memory of all processes of a server, on one core; and what static files notice of it. Writes two files.",
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds, some three minutes")
    command.add_extent(parser, names, 2, 0.8)
    command.add_keep(parser, KEPT)
    parser.add_argument("--hosts", default="", metavar="NAMES", help=f"some servers only: {','.join(hosts.ABOUT)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"where the two files go (default: target/{WHO})")
    parser.add_argument("--python", type=Path, metavar="FILE", help="the Python of the applications (default: the one uWSGI is built for)")
    options = parser.parse_args()
    options.hosts = command.chosen(parser, "--hosts", options.hosts, list(hosts.ABOUT))
    command.read_extent(parser, options, names, 2, 0.8)
    return options


def bench(options):
    notes = []
    present = install(options.hosts, notes)
    binary = options.binary.resolve() if options.binary else prepare.build_server(ROOT)
    load = prepare.build_load(ROOT)
    # Debian's uWSGI brings the system's Python along; then everybody has that one.
    base = options.python or (Path("/usr/bin/python3") if hosts.PLUGIN.exists() else Path(sys.executable))
    python = prepare.private_python(ROOT, ["gunicorn", "waitress", "flask"], base, f"{WHO}-venv")
    folder = (options.output or prepare.target(ROOT) / WHO).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    versions = machine.versions(ROOT, binary, built_here=not options.binary)
    versions["programs"] = programs(python)
    congestion = network.enter(False, notes)

    with tempfile.TemporaryDirectory(prefix=f"dustdevil-{WHO}-{os.getpid()}-", dir=memory_folder()) as scratch:
        scratch = Path(scratch)
        (scratch / "site").mkdir()
        lab = Lab(binary, load, python, scratch, scratch / "site", machine.choose_cores(), machine.raise_descriptor_limit())
        about = machine.describe(lab.cores, lab.descriptors, lab.scratch)
        if about["cores"] == 1:
            notes.append("There is one core to use: server and load share it, and no figure is the server's alone.")
        if about["load_average_before"] > 0.5 * about["cores"]:
            notes.append(f"The machine was busy before it began (load average {about['load_average_before']:.1f}): trust ratios, not figures.")
        data = {
            "format": FORMAT,
            "state": "partial",
            "command": " ".join(["scripts/wsgi-bench", *sys.argv[1:]]),
            "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "rounds": options.rounds,
            "seconds_each": options.seconds,
            "congestion_control": congestion,
            "machine": about,
            "versions": versions,
            "hosts": {name: text for name, text in hosts.ABOUT.items() if name in present},
            "notes": notes,
            "rows": [],
        }
        rows.write_site(lab)
        code = 0
        try:
            for row in rows.all_rows():
                if row.name in options.rows:
                    run_row(lab, row, present, options, data)
                    save(data, folder)
            data["state"] = "complete"
        except processes.Stopped as error:
            processes.end_all()
            notes.append(f"It was {error}.")
            code = 130
        data["machine"]["load_average_after"] = os.getloadavg()[0]
        save(data, folder)
    print((folder / f"{WHO}.md").read_text())
    prepare.say(f"{folder / WHO}.md ({data['state']})", WHO)
    if options.keep:
        command.keep(folder, KEPT, FILES, data["state"] == "complete", WHO)
    return code


def run_row(lab, row, present, options, data):
    """All rounds of a row. Server follows server, so that a change of the machine's mood meets them all; every other round
    in the opposite order."""
    columns = [name for name in row.columns if name in present or name not in hosts.ABOUT]
    result = {name: getattr(row, name) for name in ("name", "title", "unit")}
    result |= {"columns": columns, "goals": [dataclasses.asdict(goal) for goal in row.goals], "servers": {}}
    data["rows"].append(result)
    for number in range(options.rounds):
        prepare.say(f"{row.title}, round {number + 1} of {options.rounds}", WHO)
        for name in columns if number % 2 == 0 else reversed(columns):
            entry = result["servers"].setdefault(name, {"rounds": [], "problems": []})
            # Once more when it fails: one stumble would leave a hole. A failure has no number, and is told.
            for again in (True, False):
                try:
                    entry["rounds"].append({"round": number, **row.run(lab, name, options.seconds)})
                    break
                except (measure.Failed, servers.CannotStart) as error:
                    entry["problems"].append(str(error))
                    prepare.say(f"{name}, {row.title}: {error}" + (" (once more)" if again else ""), WHO)


def save(data, folder):
    write(folder / f"{WHO}.json", json.dumps(data, indent=1) + "\n")
    write(folder / f"{WHO}.md", table.markdown(data))


def install(wanted, notes):
    """Those of the hosts that are there, after an attempt to install the others."""
    present = []
    for name in wanted:
        missing = []
        for program, packages in hosts.NEEDS.get(name, []):
            if not machine.find(program) and os.geteuid() == 0 and shutil.which("apt-get"):
                prepare.say(f"installing {' '.join(packages)}", WHO)
                argv = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
                processes.run(argv, os.sched_getaffinity(0), 300)
            missing += [] if machine.find(program) else packages
        if missing:
            notes.append(f"{name} is left out; on Debian and Ubuntu: sudo apt-get install {' '.join(missing)}")
            prepare.say(notes[-1], WHO)
        else:
            present.append(name)
    return present


def programs(python):
    script = "import importlib.metadata as m; print(' '.join(f'{n} {m.version(n)},' for n in ('gunicorn', 'waitress', 'flask')))"
    found = dict(pair.split() for pair in machine.output([python, "-c", script]).rstrip(",").split(",") if pair)
    found["Python"] = machine.output([python, "-c", "import platform; print(platform.python_version())"])
    if machine.find("nginx"):
        found["nginx"] = machine.output([machine.find("nginx"), "-v"]).rpartition("/")[2]
    if machine.find("uwsgi"):
        found["uWSGI"] = machine.output([machine.find("uwsgi"), "--version"])
    return found


if __name__ == "__main__":
    sys.exit(main())
