"""Measures the points in rounds, on one server after the other. Stores the numbers of each, or the reason for which there are none."""

import sys
import time

from . import engines
from ..common import measure, servers, steady

SAVE_EVERY = 15  # seconds between two saves


class Runner:
    def __init__(self, lab, results, names, rounds, folder):
        self.lab, self.results, self.names, self.rounds, self.folder = lab, results, names, rounds, folder
        self.left_out = []  # points for which the limit of open files is too low
        self.unable = {}  # servers that did not start, and why
        self.saved = time.monotonic()
        self.progress = Progress([])
        self.pace = steady.Pace(lab.cores[0] | lab.cores[1])

    def run(self, experiments):
        plan = list(self.plan(experiments))
        self.progress = Progress(plan)
        self.results.data["planned"] = len(plan)
        if self.left_out:
            most = max(point.needs for _, point in self.left_out)
            numbers = sorted({number for number, _ in self.left_out})
            self.note(
                f"{len(self.left_out)} points of experiments {', '.join(map(str, numbers))} are left out: they need up to {most} open files, and the limit "
                f"is {self.lab.descriptors}. Raise it first: ulimit -n {most}, or as root: prlimit --pid $$ --nofile={most}"
            )
        for experiment, number, point, name in plan:
            self.progress.begin(experiment, number, point, name)
            self.one(experiment, number, point, name)
            self.progress.end(point)
            if time.monotonic() - self.saved > SAVE_EVERY:
                self.results.save(self.folder)
                self.saved = time.monotonic()

    def plan(self, experiments):
        """Yields the measurements in order. The servers take turns at each point, so that a disturbance of the machine affects
        all of them. Every second round goes in the opposite order."""
        for experiment in experiments:
            names = [name for name in self.names if name in engines.ENGINES or experiment.rivals]
            for number in range(1, self.rounds + 1):
                for point in experiment.points:
                    if point.needs > self.lab.descriptors:
                        if number == 1:
                            self.left_out.append((experiment.number, point))
                        continue
                    for name in names if number % 2 else reversed(names):
                        yield experiment, number, point, name

    def one(self, experiment, number, point, name):
        entry = {"experiment": experiment.number, "series": point.series, "server": name, "x": point.x, "round": number}
        # Try a second time, because a single failure would leave a gap in the plot. Both results are stored.
        for attempt in (1, 2):
            if name in self.unable:
                self.results.add({**entry, "ok": False, "problem": self.unable[name], "numbers": {}})
                return
            began = time.monotonic()
            try:
                again = lambda why: self.progress.say(f"{name}, {point.series} at {point.x:g}: {why}")
                outcome = steady.measure(self.pace, lambda: self.measure(point, name), again)
            except servers.CannotStart as error:
                self.unable[name] = str(error)
                self.note(str(error))
                continue
            except measure.Failed as error:
                self.progress.say(f"{name}, {point.series} at {point.x:g}: {error}" + (" (trying once more)" if attempt == 1 else ""))
                self.results.add({**entry, "attempt": attempt, "ok": False, "problem": str(error), "numbers": {}})
                continue
            self.results.add({**entry, "attempt": attempt, "ok": True, "took": round(time.monotonic() - began, 2), **outcome})
            return

    def measure(self, point, name):
        cores = self.lab.cores[2] if point.cores == "all" else None
        server = engines.start(self.lab, name, cores)
        try:
            return point.run(self.lab, server)
        finally:
            server.stop()

    def note(self, text):
        if text not in self.results.data["notes"]:
            self.progress.say(text)
            self.results.data["notes"].append(text)


class Progress:
    """Shows progress. On a terminal it is one line that is overwritten; otherwise one line for each experiment and round."""

    def __init__(self, plan):
        self.total, self.done = len(plan), 0
        self.left = self.planned = sum(point.seconds for _, _, point, _ in plan)
        self.began = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.heading = None

    def begin(self, experiment, number, point, name):
        heading = (experiment.number, number)
        if heading != self.heading and not self.terminal:
            print(f"compare: {experiment.number}. {experiment.title}, round {number}; {self.remaining()}", file=sys.stderr, flush=True)
        self.heading = heading
        self.doing = f"{experiment.number}. {point.series} {point.x:g}: {name}"
        self.show()

    def end(self, point):
        self.done += 1
        self.left -= point.seconds

    def remaining(self):
        spent = self.planned - self.left
        pace = (time.monotonic() - self.began) / spent if spent > 10 else 1
        seconds = round(self.left * pace)
        return f"{self.done} of {self.total} done, about {seconds // 60}:{seconds % 60:02} left"

    def show(self):
        if self.terminal:
            print(f"\r\x1b[K[{self.remaining()}] {self.doing}", end="", file=sys.stderr, flush=True)

    def say(self, text):
        print(("\r\x1b[K" if self.terminal else "") + f"compare: {text}", file=sys.stderr, flush=True)

    def finish(self):
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
