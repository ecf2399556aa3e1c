"""The result of a comparison: every round, in JSON and CSV, and the medians for the plots and sentences."""

import csv
import json
import os
import statistics
from collections import defaultdict

from ..common.files import write

FORMAT = 1


class Results:
    """`data` is the content of results.json; everything else is computed from it."""

    def __init__(self, data):
        self.data = data
        self.good = defaultdict(list)
        for entry in data["rounds"]:
            self._index(entry)

    @classmethod
    def new(cls, **about):
        return cls({"format": FORMAT, "state": "running", **about, "notes": [], "rounds": []})

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as file:
            return cls(json.load(file))

    def _index(self, entry):
        if entry["ok"]:
            self.good[entry["experiment"], entry["series"], entry["server"], entry["x"]].append(entry)

    def add(self, entry):
        self.data["rounds"].append(entry)
        self._index(entry)

    # ---- reading

    def xs(self, experiment, series, server=None):
        """The x of all points with a valid measurement, in order."""
        return sorted({key[3] for key in self.good if key[:2] == (experiment, series) and server in (None, key[2])})

    def servers(self, experiment):
        """The servers with a valid measurement, in the order of the run."""
        measured = {key[2] for key in self.good if key[0] == experiment}
        return [name for name in self.data["servers"] if name in measured]

    def all(self, experiment, series, server, x, metric):
        entries = self.good.get((experiment, series, server, x), [])
        # A disturbed round counts only where there is no other.
        entries = [entry for entry in entries if not entry["flags"]["disturbed"]] or entries
        return [entry["numbers"][metric] for entry in entries if entry["numbers"].get(metric) is not None]

    def value(self, experiment, series, server, x, metric):
        """The median of the rounds, or None."""
        values = self.all(experiment, series, server, x, metric)
        return statistics.median(values) if values else None

    def flag(self, experiment, series, server, x, name):
        """The most frequent value of a flag in the rounds."""
        flags = [entry["flags"][name] for entry in self.good.get((experiment, series, server, x), [])]
        return statistics.mode(flags) if flags else None

    # ---- writing

    def save(self, folder):
        """Writes results.json and results.csv, each in one step."""
        write(folder / "results.json", json.dumps(self.data, indent=1) + "\n")
        rows = [["experiment", "series", "server", "x", "round", "ok", "bound", "starved", "at_least", "disturbed", "metric", "value"]]
        for entry in self.data["rounds"]:
            flags = entry.get("flags") or {}
            head = [entry["experiment"], entry["series"], entry["server"], entry["x"], entry["round"], entry["ok"]]
            head += [flags.get(name, "") for name in ("bound", "starved", "at_least", "disturbed")]
            numbers = entry["numbers"].items() if entry["ok"] else [("problem", entry["problem"])]
            rows += [[*head, metric, value] for metric, value in numbers if value is not None]
        temporary = folder / "results.csv.new"
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        os.replace(temporary, folder / "results.csv")
