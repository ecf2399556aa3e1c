"""wsgi-bench.md: medians with their spread, results beside their goals, and notes on the run."""

import statistics

from ..common.table import line, marks, median, short, spread, table, values


def markdown(data):
    parts = [_title(data), *_tables(data), _goals(data), _more(data), _notes(data)]
    return "\n\n".join(part for part in parts if part) + "\n"


def ratio(row, goal):
    """The goal's figure as (median, lowest, highest) of the rounds. A round is compared with the same round of the other."""
    ours = {one["round"]: one["numbers"]["figure"] for one in row["servers"].get(goal["ours"], {}).get("rounds", [])}
    other = {one["round"]: one["numbers"]["figure"] for one in row["servers"].get(goal["other"], {}).get("rounds", [])}
    found = [figure / other[number] for number, figure in ours.items() if number in other] if goal["other"] else list(ours.values())
    return (statistics.median(found), min(found), max(found)) if found else None


def _title(data):
    about, versions = data["machine"], data["versions"]
    commit = versions.get("commit", "")[:12] + (" with changes" if versions.get("changed_files") else "")
    return "\n".join(
        [
            "# Python applications on dustdevil and on others",
            "",
            f"`{data['command']}`, {data['began']}, {data['state']}. {about['processor']}, kernel {about['kernel']}, {about['system']}. "
            f"Every process of a server on core {about['server_core']}, the load on core {about['load_core']}, load average "
            f"{about['load_average_before']:.1f} before and {about.get('load_average_after', 0):.1f} after. {data['rounds']} rounds of "
            f"{data['seconds_each']:g} s; the servers take turns. The status and length of every answer were checked.",
            "",
            "; ".join([f"dustdevil {commit}".strip(), *(f"{name} {text}" for name, text in versions["programs"].items())]) + ".",
            "",
            "; ".join(f"{name}: {text}" for name, text in data["hosts"].items()) + ".",
        ]
    )


def _tables(data):
    """Rows with the same columns share a table."""
    groups = {}
    for row in data["rows"]:
        groups.setdefault(tuple(row["columns"]), []).append(row)
    text = "CPU is user and system time of all processes of the server. Medians; ± is half of the range. g: the load's core was full "
    text += "and the server's was not. d: disturbed each time: other programs took more than 15% of the two cores, or a core was slow."
    for columns, rows in groups.items():
        lines = []
        for row in rows:
            cells = []
            for name in columns:
                around = spread(row, name)
                cells.append(short(median(row, name)) + (f" ±{around:.0f}%" if around is not None else "") + marks(row, name))
            lines.append(line(row["title"], row["unit"], *cells))
        yield text + "\n\n" + table(["row", "unit", *columns], lines) if text else table(["row", "unit", *columns], lines)
        text = ""


def _goals(data):
    lines = []
    for row in data["rows"]:
        for goal in row["goals"]:
            found = ratio(row, goal)
            of = f" of {goal['other']}" if goal["other"] else f" {row['unit']}"
            came = f"{found[0]:.3g} ({found[1]:.3g} to {found[2]:.3g})" if found else "-"
            met = "" if not found else "yes" if found[0] <= goal["share"] else "no"
            met += ", within the spread" if found and found[1] <= goal["share"] < found[2] else ""
            disturbed = any("d" in marks(row, name) for name in (goal["ours"], goal["other"]))
            met += ", disturbed" if found and disturbed and row["unit"] != "MB (RSS)" else ""
            lines.append(line(row["title"], f"{goal['ours']}: at most {goal['share']:g}{of}", came, met))
    return "## Goals\n\nMedian of the rounds (lowest to highest). Each round is compared with the same round of the other.\n\n" + table(
        ["row", "goal", "result", "met"], lines
    )


def _more(data):
    lines = []
    for row in data["rows"]:
        for name in row["columns"]:
            rate, p50, p99, pss = (median(row, name, metric) for metric in ("rate", "p50_us", "p99_us", "pss_mb"))
            if rate and p50 is not None:
                lines.append(line(row["title"], name, short(rate), f"{p50:,.0f}", f"{p99:,.0f}", ""))
            elif pss:
                lines.append(line(row["title"], name, "", "", "", f"{pss:.3g} MB in {values(row, name, 'processes')[-1]} processes"))
    return "## Answers a second, latency in microseconds, PSS\n\n" + table(["row", "on", "answers/s", "p50", "p99", "PSS"], lines)


def _notes(data):
    said = list(data["notes"])
    for row in data["rows"]:
        for name, entry in row["servers"].items():
            said += [f"{name}, {row['title']}: {problem}" for problem in entry["problems"][-1:]]
    return "## Notes\n\n" + "\n".join(f"- {note}" for note in said) if said else ""
