"""scripts/bench: what it measures on which servers. common/bench.py is its main."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..common import bench, machine, prepare
from . import peers, rows, table

SETTLE = 3.5  # seconds to wait after the files are written: servers do not cache a file that has just changed


@dataclass
class Lab:
    """The settings of a run, which every measurement gets. The functions in common take it as `lab`."""

    binary: Path
    load: Path
    limit: Path
    first_byte: Path
    hostile: Path
    scratch: Path
    site: Path
    store: Path
    log: Path
    cores: tuple
    descriptors: int
    python: str = sys.executable
    max_connections: int = 12000


class Beside(bench.Bench):
    """dustdevil beside other servers, and beside the least that a server can do."""

    name = "bench"
    about = (
        "Measures dustdevil beside nginx, lighttpd, h2o and a bare event loop, each with one worker on one core. "
        "Writes bench.md and bench.json."
    )
    quick_about = "one short round, about three minutes"
    quick_rounds = 1
    quick_seconds = 0.5
    taking_part = "peers"

    def all_rows(self):
        return rows.all_rows()

    def all_names(self):
        return [peer.name for peer in peers.all_peers()]

    def add_flags(self, parser):
        parser.add_argument("--no-strace", action="store_true", help="do not count system calls")
        parser.add_argument("--host-network", action="store_true", help="measure on this machine's own loopback, also as root")

    def prepare(self, options, names, notes):
        self.host_network = options.host_network
        install(names, notes)
        self.peers = {peer.name: peer for peer in peers.all_peers() if peer.name in names and peers.is_there(peer.name)}
        self.strace = not options.no_strace and install_or_note("strace", ["strace"], notes)
        self.binary = options.binary.resolve() if options.binary else prepare.build_server()
        here = Path(__file__).parent
        self.tools = [prepare.build_load(), *(prepare.build_c(here / f"{name}.c") for name in ("limit", "first_byte", "hostile"))]
        return {name: peer.about for name, peer in self.peers.items()}, self.versions(built_here=not options.binary)

    def versions(self, built_here):
        found = machine.versions(prepare.ROOT, self.binary, built_here)
        names = self.peers.keys() & {"nginx", "lighttpd", "h2o"}
        kept = {name: found[name] for name in ("commit", "changed_files", "dustdevil", "compiler")}
        return kept | {name: machine.output([peers.program(name), "-v"]) for name in sorted(names)}

    def make_lab(self, scratch):
        site, store = scratch / "site", scratch / "store"
        for folder in (site, store, store / ".nginx"):
            folder.mkdir()
        cores, descriptors = machine.choose_cores(), machine.raise_descriptor_limit()
        lab = Lab(self.binary, *self.tools, scratch, site, store, scratch / "access.log", cores, descriptors)
        rows.write_site(lab)
        time.sleep(SETTLE)
        return lab

    def describe(self, row, columns):
        return {name: getattr(row, name) for name in ("name", "title", "goal", "against", "unit", "less_is_better")}

    def columns(self, row, present):
        return [name for name in present if not row.needs or row.needs in self.peers[name].can]

    def measure(self, lab, row, name, seconds):
        return rows.measure_row(lab, self.peers[name], row, seconds)

    def after_rounds(self, lab, row, name, entry):
        if self.strace and row.is_load():
            entry["calls"] = rows.count_calls(lab, self.peers[name], row)

    def markdown(self, data):
        return table.markdown(data)


def install(names, notes):
    for name, packages in peers.PACKAGES.items():
        if name in names:
            install_or_note(name, packages, notes)


def install_or_note(program, packages, notes):
    if prepare.install(program, packages):
        return True
    notes.append(f"{program} is missing and left out; on Debian and Ubuntu: sudo apt-get install {' '.join(packages)}")
    prepare.say(notes[-1])
    return False


if __name__ == "__main__":
    sys.exit(bench.main(Beside()))
