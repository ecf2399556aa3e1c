"""scripts/wsgi-bench: what it measures on which servers. common/bench.py is its main."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from ..common import bench, machine, prepare
from . import hosts, rows, table


@dataclass
class Lab:
    """The settings of a run, which every measurement gets. The functions in common take it as `lab`."""

    binary: Path
    load: Path
    python: Path
    scratch: Path
    site: Path
    cores: tuple
    descriptors: int


class Applications(bench.Bench):
    """Python applications on dustdevil, and on the servers that they would otherwise run on."""

    name = "wsgi-bench"
    about = (
        "Measures Python applications on dustdevil beside gunicorn, nginx with uWSGI, nginx with gunicorn, and waitress: CPU a request "
        "and memory of all processes of a server, on one core; and whether static files become slower beside an application. "
        "Writes wsgi-bench.md and wsgi-bench.json."
    )
    quick_about = "two short rounds, about three minutes"
    quick_rounds = 2
    quick_seconds = 0.8
    taking_part = "hosts"

    def all_rows(self):
        return rows.all_rows()

    def all_names(self):
        return list(hosts.ABOUT)

    def add_flags(self, parser):
        parser.add_argument(
            "--python", type=Path, metavar="FILE", help="the Python that runs the applications (default: the one that uWSGI is built for)"
        )

    def prepare(self, options, names, notes):
        present = install(names, notes)
        self.binary = options.binary.resolve() if options.binary else prepare.build_server()
        self.load = prepare.build_load()
        # Debian's uWSGI is built for the system's Python; all hosts then use that one.
        base = options.python or (Path("/usr/bin/python3") if hosts.PLUGIN.exists() else Path(sys.executable))
        self.python = prepare.private_python(["gunicorn", "waitress", "flask"], base, f"{self.name}-venv")
        versions = machine.versions(prepare.ROOT, self.binary, built_here=not options.binary)
        versions["programs"] = programs(self.python)
        return {name: text for name, text in hosts.ABOUT.items() if name in present}, versions

    def make_lab(self, scratch):
        site = scratch / "site"
        site.mkdir()
        lab = Lab(self.binary, self.load, self.python, scratch, site, machine.choose_cores(), machine.raise_descriptor_limit())
        rows.write_site(lab)
        return lab

    def describe(self, row, columns):
        about = {name: getattr(row, name) for name in ("name", "title", "unit")}
        return about | {"columns": columns, "goals": [dataclasses.asdict(goal) for goal in row.goals]}

    def columns(self, row, present):
        """The columns of a row that can be measured: hosts, or states of dustdevil, which is always installed."""
        return [name for name in row.columns if name in present or name not in hosts.ABOUT]

    def measure(self, lab, row, name, seconds):
        return row.run(lab, name, seconds)

    def markdown(self, data):
        return table.markdown(data)


def install(wanted, notes):
    """Tries to install missing hosts. Returns the hosts that are installed."""
    present = []
    for name in wanted:
        missing = []
        for program, packages in hosts.NEEDS.get(name, []):
            missing += [] if prepare.install(program, packages) else packages
        if missing:
            notes.append(f"{name} is left out; on Debian and Ubuntu: sudo apt-get install {' '.join(missing)}")
            prepare.say(notes[-1])
        else:
            present.append(name)
    return present


def programs(python):
    """The versions of the programs, by name."""
    script = "import importlib.metadata as m; print(' '.join(f'{n} {m.version(n)},' for n in ('gunicorn', 'waitress', 'flask')))"
    found = dict(pair.split() for pair in machine.output([python, "-c", script]).rstrip(",").split(",") if pair)
    found["Python"] = machine.output([python, "-c", "import platform; print(platform.python_version())"])
    if machine.find("nginx"):
        found["nginx"] = machine.output([machine.find("nginx"), "-v"]).rpartition("/")[2]
    if machine.find("uwsgi"):
        found["uWSGI"] = machine.output([machine.find("uwsgi"), "--version"])
    return found


if __name__ == "__main__":
    sys.exit(bench.main(Applications()))
