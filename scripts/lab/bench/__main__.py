"""scripts/bench: what happens when. Prepares, measures in rounds, writes bench.md and bench.json."""

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ..common import command, machine, measure, network, prepare, processes, servers
from ..compare.__main__ import memory_folder
from ..compare.results import write
from . import peers, rows, table

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "scripts" / "results" / "bench"
FILES = ["bench.md", "bench.json"]
SETTLE = 3.5  # seconds: a server may read a file anew that changed a moment ago
FORMAT = 1


@dataclass
class Lab:
    """What every measurement needs to know. The laboratory's functions take it as theirs."""

    binary: Path
    load: Path
    limit: Path
    first_byte: Path
    scratch: Path
    site: Path
    store: Path
    log: Path
    cores: tuple
    descriptors: int
    python: str = sys.executable
    max_connections: int = 12000


def main():
    options = arguments()
    return command.run("bench", lambda: bench(options))


def arguments():
    known_rows = [row.name for row in rows.all_rows()]
    known_peers = [peer.name for peer in peers.all_peers()]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures dustdevil beside nginx, lighttpd, h2o and a bare event loop, one worker on a core each. "
        "Writes bench.md and bench.json.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, some three minutes")
    command.add_extent(parser, known_rows, 1, 0.5)
    parser.add_argument("--peers", default="", metavar="NAMES", help=f"some servers only: {','.join(known_peers)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the two files go (default: target/bench)")
    command.add_keep(parser, KEPT)
    parser.add_argument("--no-strace", action="store_true", help="leave out the system calls")
    parser.add_argument("--host-network", action="store_true", help="as root, too, stay on this machine's own loopback")
    options = parser.parse_args()
    options.peers = command.chosen(parser, "--peers", options.peers, known_peers)
    command.read_extent(parser, options, known_rows, 1, 0.5)
    return options


def bench(options):
    notes = []
    present = install([peer for peer in peers.all_peers() if peer.name in options.peers], notes)
    strace = not options.no_strace and install_tool("strace", notes)
    binary = options.binary.resolve() if options.binary else prepare.build_server(ROOT)
    tools = [prepare.build_load(ROOT)]
    tools += [prepare.build_c(ROOT, Path(__file__).parent / f"{name}.c", f"bench-{name}") for name in ("limit", "first_byte")]
    folder = (options.output or prepare.target(ROOT) / "bench").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    versions = describe_versions(binary, present, built_here=not options.binary)
    congestion = network.enter(options.host_network, notes)

    with tempfile.TemporaryDirectory(prefix=f"dustdevil-bench-{os.getpid()}-", dir=memory_folder()) as scratch:
        lab = make_lab(binary, tools, Path(scratch))
        about = machine.describe(lab.cores, lab.descriptors, lab.scratch)
        if about["cores"] == 1:
            notes.append("There is one core to use: server and load share it, and no figure is the server's alone.")
        if about["load_average_before"] > 0.5 * about["cores"]:
            notes.append(f"The machine was busy before it began (load average {about['load_average_before']:.1f}).")
        data = {
            "format": FORMAT,
            "state": "partial",
            "command": " ".join(["scripts/bench", *sys.argv[1:]]),
            "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "rounds": options.rounds,
            "seconds_each": options.seconds,
            "congestion_control": congestion,
            "machine": about,
            "versions": versions,
            "peers": {peer.name: peer.about for peer in present},
            "notes": notes,
            "rows": [],
        }
        rows.write_site(lab)
        time.sleep(SETTLE)
        code = 0
        try:
            for row in rows.all_rows():
                if row.name in options.rows:
                    data["rows"].append(run_row(lab, row, present, options, strace))
                    save(data, folder)
            if is_complete(data):
                data["state"] = "complete"
        except processes.Stopped as error:
            processes.end_all()
            notes.append(f"It was {error}.")
            code = 130
        data["machine"]["load_average_after"] = os.getloadavg()[0]
        save(data, folder)

    print((folder / "bench.md").read_text())
    prepare.say(f"{folder / 'bench.md'} ({data['state']})", "bench")
    if options.keep:
        command.keep(folder, KEPT, FILES, data["state"] == "complete", "bench")
    return code


def is_complete(data):
    """Every row, on everybody, in every round."""
    everybody = len(data["peers"]) == len(peers.all_peers())
    rounds = [len(entry["rounds"]) for row in data["rows"] for entry in row["servers"].values()]
    return everybody and len(data["rows"]) == len(rows.all_rows()) and set(rounds) == {data["rounds"]}


def save(data, folder):
    write(folder / "bench.json", json.dumps(data, indent=1) + "\n")
    write(folder / "bench.md", table.markdown(data))


def run_row(lab, row, present, options, strace):
    """All rounds of a row. Server follows server, so that a change of the machine's mood meets them all; every other round
    in the opposite order."""
    about = {name: getattr(row, name) for name in ("name", "title", "goal", "against", "unit", "less_is_better")}
    result = {**about, "servers": {}}
    able = [peer for peer in present if not row.needs or row.needs in peer.can]
    for number in range(options.rounds):
        prepare.say(f"{row.title}, round {number + 1} of {options.rounds}", "bench")
        for peer in able if number % 2 == 0 else reversed(able):
            entry = result["servers"].setdefault(peer.name, {"rounds": [], "problems": []})
            attempt(entry, peer, row, lambda peer=peer: entry["rounds"].append(rows.measure_row(lab, peer, row, options.seconds)))
    for peer in able if strace and row.is_load() else []:
        entry = result["servers"][peer.name]
        attempt(entry, peer, row, lambda peer=peer: entry.update(calls=rows.count_calls(lab, peer, row)))
    return result


def attempt(entry, peer, row, act):
    """Does it once more when it fails: one stumble would leave a hole. A failure has no number, and is told."""
    for again in (True, False):
        try:
            return act()
        except (measure.Failed, servers.CannotStart) as error:
            entry["problems"].append(str(error))
            prepare.say(f"{peer.name}, {row.title}: {error}" + (" (once more)" if again else ""), "bench")


def make_lab(binary, tools, scratch):
    site, store = scratch / "site", scratch / "store"
    for folder in (site, store, store / ".nginx"):
        folder.mkdir()
    return Lab(binary, *tools, scratch, site, store, scratch / "access.log", machine.choose_cores(), machine.raise_descriptor_limit())


def install(wanted, notes):
    """Those of the peers that are there, after an attempt to install the others."""
    for name, packages in peers.PACKAGES.items():
        if any(peer.name == name for peer in wanted):
            install_tool(name, notes, packages)
    return [peer for peer in wanted if peer.name in ("dustdevil", "limit") or peers.program(peer.name)]


def install_tool(name, notes, packages=None):
    packages = packages or [name]
    if machine.find(name):
        return True
    if os.geteuid() == 0 and shutil.which("apt-get"):
        prepare.say(f"installing {' '.join(packages)}", "bench")
        argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        processes.run(["env", "DEBIAN_FRONTEND=noninteractive", *argv], os.sched_getaffinity(0), 300)
    if not machine.find(name):
        notes.append(f"{name} is missing and left out; on Debian and Ubuntu: sudo apt-get install {' '.join(packages)}")
        prepare.say(notes[-1], "bench")
    return bool(machine.find(name))


def describe_versions(binary, present, built_here):
    found = machine.versions(ROOT, binary, built_here)
    names = {peer.name for peer in present} & {"nginx", "lighttpd", "h2o"}
    kept = {name: found[name] for name in ("commit", "changed_files", "dustdevil", "compiler")}
    return kept | {name: machine.output([peers.program(name), "-v"]) for name in sorted(names)}


if __name__ == "__main__":
    sys.exit(main())
