"""Checks a results.json: every experiment has all engines, and a failed run has no numbers."""

import sys

from . import engines
from .results import FORMAT, Results

# The series that each experiment must have, and the metrics that each of their points must have. A point at which a server
# starved may lack some: the missing answer is the result.
NEEDED = {
    1: {"kept": ["rate", "served"], "one each": ["rate", "served"], "wrk": ["rate"]},
    2: {"capacity": ["rate"], "offered": ["rate", "offered", "p99_us"]},
    3: {"idle": ["memory_kib", "threads", "served"]},
    4: {"drip": ["p99_us", "unanswered"], "sip": ["p99_us", "unanswered"]},
    5: {"wait": ["rate"]},
    6: {"plain": ["rate", "content_per_s"], "gzip": ["rate", "content_per_s"]},
    7: {"used, kept": ["cpu_us", "switches"], "used, one each": ["cpu_us", "switches"], "calls, kept": ["calls"], "calls, one each": ["calls"]},
    8: {"upload": ["rate", "content_per_s"]},
}


def gaps(results):
    """Sentences about missing data in the chosen experiments."""
    found = []
    for experiment in results.data["experiments"]:
        series = NEEDED[experiment]
        for name, metrics in series.items():
            xs = sorted({entry["x"] for entry in results.data["rounds"] if (entry["experiment"], entry["series"]) == (experiment, name)})
            if not xs:
                found.append(f"Experiment {experiment} was not run ({name}).")
            for engine in engines.ENGINES:
                for x in xs:
                    lacking = [metric for metric in metrics if results.value(experiment, name, engine, x, metric) is None]
                    if lacking:
                        found.append(f"Experiment {experiment}, {name} at {x:g}: {engine} has no {', '.join(lacking)}.")
    return found


def faults(results):
    """Sentences about errors in a complete or partial result."""
    data, found = results.data, []
    if data.get("format") != FORMAT:
        return [f"The format is {data.get('format')}, not {FORMAT}."]
    for entry in data["rounds"]:
        where = f"Experiment {entry['experiment']}, {entry['series']} at {entry['x']:g}, {entry['server']}, round {entry['round']}"
        if not entry["ok"] and (entry["numbers"] or not entry.get("problem")):
            found.append(f"{where}: it failed, but has numbers or no reason.")
        if entry["ok"] and not entry["numbers"]:
            found.append(f"{where}: it succeeded, but has no numbers.")
        for metric, value in entry["numbers"].items():
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < float("inf")):
                found.append(f"{where}: {metric} is {value}.")
    for name in ("processor", "kernel", "limits"):
        if not data["machine"].get(name):
            found.append(f"The machine's {name} is not recorded.")
    if not data["versions"].get("dustdevil"):
        found.append("The server's version is not recorded.")
    if data["state"] == "complete" and (gaps(results) or data["experiments"] != list(NEEDED)):
        found.append("The state is complete, but something is missing.")
    if data["state"] == "partial" and not data.get("why_partial"):
        found.append("The state is partial, but there is no reason for it.")
    return found


def run(path):
    """Prints errors and missing data. Returns the exit code."""
    results = Results.load(path)
    wrong, missing = faults(results), gaps(results)
    for sentence in wrong:
        print(f"check: wrong: {sentence}", file=sys.stderr)
    for sentence in missing[:10]:
        print(f"check: missing: {sentence}", file=sys.stderr)
    if len(missing) > 10:
        print(f"check: missing: and {len(missing) - 10} more", file=sys.stderr)
    failed = sum(not entry["ok"] for entry in results.data["rounds"])
    verdict = "wrong" if wrong else "partial" if missing else "right" if results.data["state"] == "partial" else "complete and right"
    good = sum(map(len, results.good.values()))
    print(f"check: {verdict}: {good} measurements with every answer checked; {failed} failed and gave no number", file=sys.stderr)
    return 1 if wrong or missing else 0
