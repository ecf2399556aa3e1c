"""The results of rounds as a table in Markdown: medians, their spread, and marks for disturbances."""

import statistics


def values(row, name, metric="figure"):
    rounds = row["servers"].get(name, {}).get("rounds", [])
    return [one["numbers"][metric] for one in rounds if one["numbers"].get(metric) is not None]


def median(row, name, metric="figure"):
    found = values(row, name, metric)
    return statistics.median(found) if found else None


def marks(row, name):
    """Marks for conditions in most rounds: g for generator-bound, d for disturbed."""
    flags = [one["flags"] for one in row["servers"].get(name, {}).get("rounds", [])]
    if not flags:
        return ""
    bound = sum(flag["bound"] == "generator" for flag in flags) * 2 > len(flags)
    disturbed = sum(flag["disturbed"] for flag in flags) * 2 > len(flags)
    return (" g" if bound else "") + (" d" if disturbed else "")


def spread(row, name):
    """Half of the range of the rounds, in per cent of their median. None if there is only one round."""
    found = values(row, name)
    middle = statistics.median(found) if found else 0
    return (max(found) - min(found)) / 2 / middle * 100 if middle and len(found) > 1 else None


def short(value):
    """A number with three significant figures and k, M or G."""
    if value is None:
        return "-"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 10 or (letter != "k" and abs(value) >= factor):
            return f"{value / factor:.3g}{letter}" if value < factor * 1000 else f"{value / factor:.0f}{letter}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(head, lines):
    return "\n".join([line(*head), line(*["---"] * len(head)), *lines])
