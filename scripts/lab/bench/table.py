"""bench.md: medians, what dustdevil's figure comes to beside the goal, and what stood in the way."""

from ..common.table import line, marks, median, short, spread, table, values
from .hostile import ENTRIES, GROUPS

ORDER = ["dustdevil", "nginx", "nginx-copy", "lighttpd", "h2o", "limit"]


def markdown(data):
    names = [name for name in ORDER if name in data["peers"]]
    parts = [_title(data), _figures(data, names), _to_nginx(data, names), _pace(data, names), _hostile(data, names), _calls(data, names), _notes(data)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(row):
    """(what it came to, the goal, whether it is met), in words."""
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
        f"{data['congestion_control']} on loopback. {data['rounds']} rounds of {data['seconds_each']:g} s, servers alternating, medians; every "
        "answer's status and length checked, the bytes of every 64th.",
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
    text = "## The row's own figure\n\nCPU seconds are user and system time of the server. ± is half of the range; g: the load's "
    text += "core was full and the server's not (generator-bound); d: something else took more than 15% of the two cores (disturbed).\n\n"
    return text + table(["row", "unit", *names, "dustdevil came to", "goal", "met"], lines)


def _to_nginx(data, names):
    lines = []
    for row in data["rows"]:
        base = median(row, "nginx")
        if not base:
            continue
        cells = [median(row, name) for name in names]
        lines.append(line(row["title"], *(f"{cell / base:.2f}" if cell is not None else "-" for cell in cells)))
    return "## The same, nginx = 1\n\n" + table(["row", *names], lines) if lines else ""


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
    text = "## Answers a second, and p50 / p99 in microseconds\n\nThe load asks as fast as it is answered, so latency here is that of a full server.\n\n"
    return text + table(["row", *names], lines) if lines else ""


def _hostile(data, names):
    """The row beside hostile clients, with what these got: a server that does not answer them cannot hide it."""
    groups = list(GROUPS)
    lines = []
    for row in data["rows"]:
        for name in names if row["name"] == "hostile" else []:
            alone, beside, times = (median(row, name, metric) for metric in ("alone_p99_us", "p99_us", "times"))
            if alone is None:
                continue
            counts = [median(row, name, f"hostile {group}") for group in groups]
            refused = median(row, name, "hostile_refusals")
            least = "≥ " if any(one["flags"]["at_least"] for one in row["servers"][name]["rounds"]) else ""
            lines.append(line(name, f"{alone:,.0f}", f"{least}{beside:,.0f}", f"{least}{times:.1f}", short(median(row, name, "hostile")), *map(short, counts), short(refused)))
    if not lines:
        return ""
    text = "## Beside hostile clients\n\np99 of the normal client alone and beside the hostile ones, in microseconds, and how many times the one is the other; "
    text += "≥: some requests had no answer when the measurement ended. Then "
    text += f"answers a second that the hostile clients got, all and by kind, for listings of {ENTRIES:,} entries: "
    text += "; ".join(f"{group}: {clients} clients, {words}" + (f", {batch} pipelined" if batch else "") for group, (words, clients, batch, _) in GROUPS.items())
    text += ". Of those that never read, it is the number of clients that got the beginning of an answer. Refused: answers a second of status 400 and above.\n\n"
    return text + table(["server", "p99 alone", "p99 beside", "times", "answers/s", *groups, "refused/s"], lines)


def _calls(data, names):
    lines = []
    for row in data["rows"]:
        calls = {name: row["servers"].get(name, {}).get("calls") for name in names}
        if any(calls.values()):
            lines.append(line(row["title"], *(f"{calls[name]['all']:.2f}" if calls[name] else "-" for name in names), _most(calls.get("dustdevil"))))
    text = "## System calls an answer\n\nCounted by strace in a run of its own.\n\n"
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
