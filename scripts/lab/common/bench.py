"""The main of a bench that writes a table: scripts/bench and scripts/wsgi-bench.

It prepares, measures each row in rounds on one server after the other, and writes NAME.md and NAME.json after each row.
What the two do differently is in a subclass of Bench.
"""

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

from . import command, files, machine, measure, network, prepare, processes, servers, steady

FORMAT = 1


class Bench:
    """The base class of a bench. A subclass defines all members. `columns` are the names of servers, or of states of one server."""

    name = ""  # of the command; also names the files and the folders of results
    about = ""  # for --help
    quick_about = ""  # for --help: how long --quick takes
    quick_rounds = 1
    quick_seconds = 0.5
    taking_part = ""  # the key in NAME.json, and the flag: "peers" for --peers
    host_network = False  # measure on the machine's own loopback

    def all_rows(self):
        """The rows. Each has a name for --rows, and a title."""
        raise NotImplementedError

    def all_names(self):
        """Every server that may take part, installed or not."""
        raise NotImplementedError

    def add_flags(self, parser):
        """Flags that only this bench has."""

    def prepare(self, options, names, notes):
        """Installs and builds what the run needs. Returns ({name: description} of the servers that are installed, versions)."""
        raise NotImplementedError

    def make_lab(self, scratch):
        """Writes the files to serve. Returns the settings that the rows get, which include cores and descriptors."""
        raise NotImplementedError

    def describe(self, row, columns):
        """The facts about a row in NAME.json, besides its numbers."""
        raise NotImplementedError

    def columns(self, row, present):
        """The servers on which the row is measured, of those that are installed."""
        raise NotImplementedError

    def measure(self, lab, row, name, seconds):
        """Measures one round of a row. Returns numbers, of which `figure` is the row's result, and flags."""
        raise NotImplementedError

    def after_rounds(self, lab, row, name, entry):
        """Adds the numbers to an entry that need a separate run."""

    def markdown(self, data):
        """NAME.md."""
        raise NotImplementedError

    @property
    def files(self):
        return [f"{self.name}.md", f"{self.name}.json"]

    @property
    def kept(self):
        return prepare.RESULTS / self.name


def main(bench):
    options = arguments(bench)
    return command.run(bench.name, lambda: run(bench, options))


def arguments(bench):
    names, rows = bench.all_names(), [row.name for row in bench.all_rows()]
    parser = argparse.ArgumentParser(prog=f"scripts/{bench.name}", description=bench.about)
    parser.add_argument("--quick", action="store_true", help=bench.quick_about)
    command.add_extent(parser, rows, bench.quick_rounds, bench.quick_seconds)
    parser.add_argument(
        f"--{bench.taking_part}", dest="names", default="", metavar="NAMES", help=f"measure these servers only: {','.join(names)}"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"write the two files here (default: target/{bench.name})")
    command.add_keep(parser, bench.kept)
    bench.add_flags(parser)
    options = parser.parse_args()
    options.names = command.chosen(parser, f"--{bench.taking_part}", options.names, names)
    command.read_extent(parser, options, rows, bench.quick_rounds, bench.quick_seconds)
    return options


def run(bench, options):
    notes, code = [], 0
    present, versions = bench.prepare(options, options.names, notes)
    folder = (options.output or prepare.target() / bench.name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    congestion = network.enter(bench.host_network, notes)
    with files.scratch(bench.name) as scratch:
        lab = bench.make_lab(scratch)
        if options.keep:
            prepare.say("waiting until the machine is quiet")
            steady.await_quiet(len(lab.cores[2]))
        about = machine.describe(lab.cores, lab.descriptors, lab.scratch)
        notes += warnings(about)
        data = {
            "format": FORMAT,
            "state": "partial",
            "command": " ".join([f"scripts/{bench.name}", *sys.argv[1:]]),
            "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "rounds": options.rounds,
            "seconds_each": options.seconds,
            "congestion_control": congestion,
            "machine": about,
            "versions": versions,
            bench.taking_part: present,
            "notes": notes,
            "rows": [],
        }
        pace = steady.Pace(lab.cores[0] | lab.cores[1])
        try:
            for row in bench.all_rows():
                if row.name in options.rows:
                    run_row(bench, lab, row, present, options, data, pace)
                    save(bench, data, folder)
            if is_complete(bench, data):
                data["state"] = "complete"
        except processes.Stopped as error:
            processes.end_all()
            notes.append(f"The run was {error}.")
            code = 130
        about["load_average_after"] = os.getloadavg()[0]
        save(bench, data, folder)

    print((folder / f"{bench.name}.md").read_text())
    prepare.say(f"{folder / bench.name}.md ({data['state']})")
    if options.keep:
        command.keep(folder, bench.kept, bench.files, why_not_kept(data))
    return code


def warnings(about):
    """Notes that a reader needs to judge the numbers."""
    if about["cores"] == 1:
        yield "There is one core to use: server and load share it, and no figure is the server's alone."
    if about["load_average_before"] > 0.5 * about["cores"]:
        yield f"The machine was busy before the run began (load average {about['load_average_before']:.1f}): trust ratios, not figures."


def run_row(bench, lab, row, present, options, data, pace):
    """Measures all rounds of a row. The servers take turns within a round, so that a disturbance of the machine affects all of
    them. Every second round goes in the opposite order."""
    columns = bench.columns(row, present)
    result = {**bench.describe(row, columns), "servers": {name: {"rounds": [], "problems": []} for name in columns}}
    data["rows"].append(result)
    for number in range(options.rounds):
        prepare.say(f"{row.title}, round {number + 1} of {options.rounds}")
        for name in columns if number % 2 == 0 else reversed(columns):
            entry = result["servers"][name]

            def one_round():
                again = lambda why: prepare.say(f"{name}, {row.title}: {why}")
                outcome = steady.measure(pace, lambda: bench.measure(lab, row, name, options.seconds), again)
                entry["rounds"].append({"round": number, **outcome})

            attempt(entry, f"{name}, {row.title}", one_round)
    for name in columns:
        entry = result["servers"][name]
        attempt(entry, f"{name}, {row.title}", lambda: bench.after_rounds(lab, row, name, entry))


def attempt(entry, what, act):
    """Runs `act`, and once more if it fails, because a single failure would leave a gap in the table. A failure has no number;
    its message is kept."""
    for again in (True, False):
        try:
            return act()
        except (measure.Failed, servers.CannotStart) as error:
            entry["problems"].append(str(error))
            prepare.say(f"{what}: {error}" + (" (trying once more)" if again else ""))


def is_complete(bench, data):
    """Whether every row was measured on every server in every round."""
    rounds = {len(entry["rounds"]) for row in data["rows"] for entry in row["servers"].values()}
    everything = len(data[bench.taking_part]) == len(bench.all_names()) and len(data["rows"]) == len(bench.all_rows())
    return everything and rounds == {data["rounds"]}


def why_not_kept(data):
    if data["state"] != "complete":
        return "the result is not complete"
    flags = [one["flags"] for row in data["rows"] for entry in row["servers"].values() for one in entry["rounds"]]
    return steady.why_not_kept(data["machine"]["load_average_before"], data["machine"]["cores"], flags)


def save(bench, data, folder):
    files.write(folder / f"{bench.name}.json", json.dumps(data, indent=1) + "\n")
    files.write(folder / f"{bench.name}.md", bench.markdown(data))
