"""bench.md: medians, dustdevil's figures beside their goals, and notes on the run."""

from ..common.table import line, marks, median, short, spread, table, values
from .hostile import ENTRIES, GROUPS

ORDER = ["dustdevil", "nginx", "nginx-copy", "lighttpd", "h2o", "limit"]


def markdown(data):
    names = [name for name in ORDER if name in data["peers"]]
    parts = [_title(data), _figures(data, names), _to_nginx(data, names), _pace(data, names), _hostile(data, names), _calls(data, names), _notes(data)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(row):
    """(dustdevil's result, the goal, whether it is met), as text."""
    ours = median(row, "dustdevil")
    if row["against"]:
        goal = f">= {row['goal']:g} of {row['against']}"
        base = median(row, row["against"])
        if ours is None or not base:
            return "", goal, ""
        return f"{ours / base:.2f}", goal, "yes" if ours / base >= row["goal"] else "no"
    goal = f"<= {row['goal']:,g} {row['unit']}"
    if ours is None:
        return "", goal, ""
    return short(ours), goal, "yes" if ours <= row["goal"] else "no"


def _title(data):
    about, versions = data["machine"], data["versions"]
    commit = versions.get("commit", "")[:12] + (" with changes" if versions.get("changed_files") else "")
    lines = [
        "# dustdevil beside others",
        "",
        f"`{data['command']}`, {data['began']}, {data['state']}. {about['processor']}, kernel {about['kernel']}, {about['system']}. "
        f"One worker on core {about['server_core']}, the load on core {about['load_core']}, files on {about['files_on']}, "
        f"{data['congestion_control']} on loopback. Medians of {data['rounds']} rounds of {data['seconds_each']:g} s; the servers take turns. The status and length of "
        "every answer were checked, and the bytes of every 64th.",
        "",
        "; ".join([f"dustdevil {commit}".strip(), *(f"{name}: {text}" for name, text in versions.items() if name in ORDER[1:])]) + ".",
        "",
        "; ".join(f"{name}: {text}" for name, text in data["peers"].items() if text) + ".",
    ]
    return "\n".join(lines)


def _figures(data, names):
    lines = []
    for row in data["rows"]:
        cells = []
        for name in names:
            around = spread(row, name)
            cells.append(short(median(row, name)) + (f" ±{around:.0f}%" if around is not None else "") + marks(row, name))
        lines.append(line(row["title"], row["unit"], *cells, *verdict(row)))
    text = "## Figures\n\nCPU seconds are user and system time of the server. ± is half of the range. g: the load's core was full "
    text += "and the server's was not (generator-bound). d: disturbed each time: other programs took more than 15% of the two cores, or a core was slow.\n\n"
    return text + table(["row", "unit", *names, "dustdevil's result", "goal", "met"], lines)


def _to_nginx(data, names):
    lines = []
    for row in data["rows"]:
        base = median(row, "nginx")
        if not base:
            continue
        cells = [median(row, name) for name in names]
        lines.append(line(row["title"], *(f"{cell / base:.2f}" if cell is not None else "-" for cell in cells)))
    return "## Figures relative to nginx\n\n" + table(["row", *names], lines) if lines else ""


def _pace(data, names):
    lines = []
    for row in data["rows"]:
        if not any(values(row, name, "rate") for name in names):
            continue
        cells = []
        for name in names:
            rate, p50, p99 = (median(row, name, metric) for metric in ("rate", "p50_us", "p99_us"))
            cells.append(f"{short(rate)}, {p50:,.0f} / {p99:,.0f}" if rate and p50 is not None else "-")
        lines.append(line(row["title"], *cells))
    text = "## Answers a second, and p50 / p99 in microseconds\n\nExcept in the rows of p99, the load sends the next request as soon as it has an answer: this is the latency of a full server.\n\n"
    return text + table(["row", *names], lines) if lines else ""


def _hostile(data, names):
    """The row beside hostile clients. It also shows how many answers the hostile clients got, because not answering them would make
    the row's figure better."""
    lines = []
    for row in data["rows"]:
        for name in names if row["name"] == "hostile" else []:
            alone, beside, times = (median(row, name, metric) for metric in ("alone_p99_us", "p99_us", "times"))
            if alone is None:
                continue
            least = "≥ " if any(one["flags"]["at_least"] for one in row["servers"][name]["rounds"]) else ""
            counts = ["hostile", *(f"hostile {group}" for group in GROUPS), "hostile_refusals"]
            cells = [short(median(row, name, count)) for count in counts]
            lines.append(line(name, f"{alone:,.0f}", f"{least}{beside:,.0f}", f"{least}{times:.1f}", *cells))
    if not lines:
        return ""
    groups = [f"{name}: {clients} clients, {words}" + (f", {batch} pipelined" if batch else "") for name, (words, clients, batch, _) in GROUPS.items()]
    text = [
        "## Beside hostile clients",
        "p99 of the normal client, alone and beside the hostile clients, in microseconds, and their ratio. ≥: some requests had no answer when "
        "the measurement ended.",
        f"The hostile clients ask for listings of directories with {ENTRIES:,} entries, all at the same time. {'; '.join(groups)}. answers/s is the "
        "number of answers that they got a second, in all and for each group; for unread it is the number of clients that got the beginning of an "
        "answer. refused/s: answers a second of status 400 and above.",
    ]
    return "\n\n".join([*text, table(["server", "p99 alone", "p99 beside", "ratio", "answers/s", *GROUPS, "refused/s"], lines)])


def _calls(data, names):
    lines = []
    for row in data["rows"]:
        calls = {name: row["servers"].get(name, {}).get("calls") for name in names}
        if any(calls.values()):
            lines.append(line(row["title"], *(f"{calls[name]['all']:.2f}" if calls[name] else "-" for name in names), _most(calls.get("dustdevil"))))
    text = "## System calls an answer\n\nCounted by strace in a separate run.\n\n"
    return text + table(["row", *names, "dustdevil's"], lines) if lines else ""


def _most(calls):
    if not calls:
        return ""
    return ", ".join(f"{name} {count:.2f}" for name, count in list(calls.items())[1:7] if count >= 0.01)


def _notes(data):
    said = list(data["notes"])
    for row in data["rows"]:
        for name, entry in row["servers"].items():
            if entry["problems"] and not entry["rounds"]:
                said.append(f"{name}, {row['title']}: {entry['problems'][-1]}")
    return "## Notes\n\n" + "\n".join(f"- {note}" for note in said) if said else ""
