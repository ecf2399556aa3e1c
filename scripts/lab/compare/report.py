"""Writes report.html: one file without scripts or external resources. It needs matplotlib:

    python -m lab.compare.report results.json report.html
"""

import html
import sys
from pathlib import Path

from ..common.files import write
from . import engines, findings, plots
from .plots import duration, plain, size, speed
from .results import Results

# For each experiment: its description, and the model in its figure.
TEXTS = {
    1: (
        "Clients ask for a page of {page_bytes} bytes, each again as soon as it has its answer. Left: every client keeps its connection. "
        "Right: it opens one for each request. The load generator is our own and checks every answer; crosses show wrk.",
        "answers a second = clients being served ÷ latency of a single client, at most 1 ÷ processor time of an answer (a full core). "
        "Latency = clients being served ÷ answers a second (Little's law). Of kept connections, <b>event</b> and <b>threads</b> serve all, "
        "<b>pool</b> {pool_size}, <b>iterative</b> 1.",
    ),
    2: (
        "Requests come at random moments at a given rate, whatever the server does, each on its own connection. Latency counts from the "
        "moment a request was due, so that a server that falls behind cannot hide it. The rates are shares of each server's capacity.",
        "a queue for one processor (M/D/1): latency = latency of a single client + load ÷ (2 × (1 − load)) × time of an answer. Above a "
        "load of 1 the queue and the latency grow until the end of the run.",
    ),
    3: (
        "Each client sends one request, then keeps its connection and sends nothing. Memory is that of the server's processes: resident "
        "pages, page tables, and 16 KiB of kernel stack for each thread. Sockets in the kernel cost every server the same and are left out.",
        "memory = memory at rest + kept connections × memory of one, taken from the largest point. <b>pool</b> keeps {pool_size} and "
        "<b>iterative</b> 1, each with the memory that one has in <b>threads</b>. Threads = those that serve, and one or two that accept and wait for signals.",
    ),
    4: (
        "A normal client opens {normal_rate} connections a second and asks for a page on each, while N other clients are slow. Left: they send "
        "a request head that never ends, one byte a second. Right: they ask for 10 MiB and read 1 KiB a second.",
        "nothing changes while a worker is free. When slow clients hold all workers ({pool_size} in <b>pool</b>, 1 in <b>iterative</b>), the normal client "
        "waits until one of them times out: {header_timeout} s for a head, longer for a slow reader. The runs are shorter "
        "than that, so a hollow marker at the top means: no answer during the run.",
    ),
    5: (
        "{waiting_clients} clients ask for an answer that the server gives after a wait, as if it asked a database. A connection per request.",
        "answers a second = requests that can wait at once ÷ wait, at most a full core. At once can wait: all {waiting_clients} in <b>event</b> and <b>threads</b>, "
        "{pool_size} in <b>pool</b>, 1 in <b>iterative</b>. Latency = clients ÷ answers a second.",
    ),
    6: (
        "{size_clients} clients with kept connections (<b>iterative</b> serves one of them) ask for text files, uncompressed and compressed while "
        "they are sent.",
        "time of an answer = a fixed part + a part for each byte, taken from the smallest and the largest file. For files larger than the "
        "point where both are equal, copying (or compressing) is the main cost.",
    ),
    7: (
        "{cost_clients} clients ask for a page as fast as they can. System calls are counted by strace in a separate run. Processor time and "
        "context switches are the kernel's totals from the server's start to its end, divided by its answers.",
        "system calls: a read and a write; with a new connection also accept and close. Switches: a thread that serves one connection "
        "sleeps once for each request, or starts once for each connection. The loop does not sleep while there are requests, nor <b>iterative</b> while the "
        "next client already waits. Processor time: the inverse of the best rate of experiment 1, if its core was full.",
    ),
    8: (
        "Each client uploads {upload_mib} MiB again and again, to a name of its own. Afterwards the stored files are compared "
        "with what was sent. The files are in memory ({files_on}), so that the server is measured and not a disk.",
        "as in experiment 1: uploads at once ÷ time of a single one, at most a full core. Time of an upload = uploads at once ÷ uploads a second.",
    ),
}

def number(value):
    return plain(value) if value >= 100 else f"{value:.3g}"


def percent(value):
    return f"{value:.0%}"


# For each experiment: (metric, its name in the table, its format).
COLUMNS = {
    1: [("rate", "answers/s", number), ("p50_us", "median", duration), ("p99_us", "99th", duration), ("served", "answered", plain)],
    2: [("offered", "asked/s", number), ("rate", "answers/s", number), ("mean_us", "mean", duration), ("p99_us", "99th", duration)],
    3: [("memory_kib", "memory", lambda kib: size(kib * 1024)), ("threads", "threads", plain), ("served", "answered", plain)],
    4: [("p50_us", "median", duration), ("p99_us", "99th", duration), ("unanswered", "unanswered", percent)],
    5: [("rate", "answers/s", number), ("p50_us", "median", duration)],
    6: [("rate", "answers/s", number), ("content_per_s", "content/s", speed), ("cpu_us", "CPU each", duration), ("server_busy", "core", percent)],
    7: [],
    8: [("content_per_s", "stored/s", speed), ("p50_us", "median", duration), ("p99_us", "99th", duration), ("cpu_us", "CPU each", duration), ("server_busy", "core", percent)],
}
SERIES = {
    "kept": "connections kept",
    "one each": "a connection per request",
    "wrk": "connections kept, measured by wrk",
    "capacity": "closed loop, 64 clients",
    "offered": "requests at random moments",
    "drip": "slow clients send a head",
    "sip": "slow clients read",
    "plain": "uncompressed",
    "gzip": "compressed",
    "gzip, all cores": "compressed, server on all cores",
}
X_WORDS = {1: "connections", 2: "share", 3: "idle", 4: "slow clients", 5: "wait", 6: "size", 8: "uploads"}
X_FORMS = {2: lambda x: f"{x:.0%}" if x else "–", 5: lambda x: duration(x * 1e6) if x else "0", 6: size}

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; max-width: 1180px; margin: 0 auto; padding: 1em; }
h1 { font-size: 1.7em; margin: .6em 0 .2em; } h2 { font-size: 1.25em; margin: 2.2em 0 .3em; border-top: 1px solid #ccc; padding-top: 1em; }
.finding { background: #f2f6fa; border-left: 5px solid #0072B2; padding: .6em .9em; margin: .6em 0; }
.model { color: #444; font-size: .92em; } .notes { padding-left: 2em !important; } .state { background: #fff3d6; border-left: 5px solid #E69F00; padding: .6em .9em; }
svg { width: 100%; height: auto; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .78em; margin: .4em 0 1em; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .42em; text-align: right; white-space: nowrap; } th { font-weight: 600; background: #f5f5f5; }
td.first, th.first { text-align: left; } td.edge, th.edge { border-left: 1px solid #bbb; } tr:hover td { background: #fafad2; }
caption { text-align: left; font-weight: 600; padding: .3em 0; } sup { color: #A33; font-weight: 600; } td.none { color: #888; }
details { margin: .3em 0; } summary { cursor: pointer; } .small { font-size: .88em; color: #444; } code { background: #f2f2f2; padding: 0 .2em; }
"""


def page(results):
    data = results.data
    state = ""
    if data["state"] != "complete":
        state = f'<p class="state"><b>Partial result.</b> {escape(data.get("why_partial") or "It was not finished.")}</p>'
    number = data["settings"]["rounds"]
    rounds = f"medians of {number} rounds, with whiskers from the lowest to the highest" if number > 1 else "one round each"
    notes = "".join(f"<li>{escape(note)}</li>" for note in [*data["notes"], *findings.disturbed(results)])
    sections = "".join(section(results, number) for number in TEXTS if results.servers(number))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>dustdevil: four engines compared</title><style>{STYLE}</style></head><body>
<h1>Four engines, one server</h1>
<p>dustdevil serves with four engines that share everything except the way they wait: <b>event</b> (one thread, all connections),
<b>threads</b> (a thread for each connection), <b>pool</b> ({data["settings"]["pool_size"]} threads, each with one connection at a time) and <b>iterative</b>
(one connection at a time). The differences below come from the way they wait.</p>
{state}{f'<ul class="state notes">{notes}</ul>' if notes else ''}
{machine_table(data)}
<details open><summary><b>How to read this</b></summary><p class="small">
Lines with markers are measured: {rounds}.
Broad pale bands are the simple model that is described under each plot; where line and band differ, the model misses something. Most axes are
logarithmic, and say so. A hollow marker has a caveat, which the table names:
<sup>s</sup> starved: some connections got no answer during the run, because others held every worker, or their thread did not run (latencies are those of answered requests only);
<sup>≥</sup> at least: some requests had no answer at the end; they count with the time they had waited;
<sup>g</sup> generator-bound: the load generator's core was full and the server's was not, so that the server can do more than is shown;
<sup>d</sup> disturbed, each time it was measured: other programs took more than 15% of the two cores, or a core was slow. Every answer that is counted had the right status and length; a run with a wrong answer gives no number.
</p></details>
{sections}
{failures(results)}
</body></html>
"""


def escape(text):
    return html.escape(str(text), quote=False)


def machine_table(data):
    about, versions = data["machine"], data["versions"]
    shared = "one core for both" if about["server_core"] == about["load_core"] else f"server on core {about['server_core'][0]}, load on core {about['load_core'][0]}"
    commit = "commit " + versions["commit"][:12] if versions.get("commit") else "a given binary"
    lines = [
        ("Machine", f"{about['processor']}{', virtual' if about['virtual'] else ''}; {about['cores']} cores; {about['memory_mib']:,} MiB"),
        ("System", f"{about['system']}, Linux {about['kernel']}"),
        ("Cores", shared + "; all over loopback, so that the load uses the same machine"),
        ("Run", f"{data['mode']}, {data['began']}, {data.get('seconds', 0):.0f} s; {data['command']}"),
        ("Build", f"{versions.get('dustdevil')}, {commit}" + (" with changes" if versions.get("changed_files") else "")),
        ("With", ", ".join(versions[name] for name in ("compiler", "wrk", "nginx", "lighttpd") if versions.get(name))),
        ("Limits", "; ".join(f"{name} {value}" for name, value in about["limits"].items())),
    ]
    rows = "".join(f'<tr><th class="first">{name}</th><td class="first" style="white-space:normal">{escape(value)}</td></tr>' for name, value in lines)
    return f"<table>{rows}</table>"


def section(results, number):
    data = results.data
    about, model = (text.format(**data["settings"], upload_mib=data["settings"]["upload_bytes"] >> 20, files_on=data["machine"]["files_on"]) for text in TEXTS[number])
    ours = [name for name in results.servers(number) if name in engines.ENGINES]
    rivals = [name for name in results.servers(number) if name in engines.RIVALS]
    parts = [f'<h2 id="e{number}">{number}. {findings.TITLES[number]}</h2><p>{about}</p>']
    parts.append(f'<p class="finding">{findings.sentence(results, number)}</p>')
    parts.append(plots.FIGURES[number](results, ours))
    parts.append(f'<p class="model"><b>Simple model:</b> {model}</p>')
    bottleneck = findings.bottleneck(results, number)
    if bottleneck:
        parts.append(f'<p class="model"><b>Bottleneck:</b> {bottleneck}</p>')
    parts.append(tables(results, number, ours))
    if rivals:
        parts.append(f"<h3>Beside other servers</h3><p class=\"finding\">{findings.rivals(results, number)}</p>")
        parts.append(plots.FIGURES[number](results, ["event", *rivals] if "event" in ours else rivals))
        parts.append(tables(results, number, rivals))
    return "\n".join(parts)


def tables(results, number, names):
    if number == 7:
        return cost_tables(results, names)
    found = []
    series_here = dict.fromkeys(entry["series"] for entry in results.data["rounds"] if entry["experiment"] == number)
    for series in series_here:
        xs = results.xs(number, series)
        columns = [column for column in COLUMNS[number] if any(results.value(number, series, name, x, column[0]) is not None for name in names for x in xs)]
        if series == "wrk":
            found.append(referee_table(results, names, xs))
            continue
        if not columns:
            continue
        head = "".join(f'<th class="edge" colspan="{len(columns)}">{name}</th>' for name in names)
        words = "".join(f'<th{" class=edge" if not place else ""}>{word}</th>' for _ in names for place, (_, word, _) in enumerate(columns))
        rows = ""
        for x in xs:
            cells = "".join(cell(results, number, series, name, x, column, place) for name in names for place, column in enumerate(columns))
            rows += f'<tr><td class="first">{X_FORMS.get(number, plain)(x)}</td>{cells}</tr>'
        caption = f"<caption>{SERIES[series].capitalize()}</caption>" if series in SERIES else ""
        found.append(f'<div class="wide"><table>{caption}<tr><th class="first"></th>{head}</tr><tr><th class="first">{X_WORDS[number]}</th>{words}</tr>{rows}</table></div>')
    return "".join(found)


def cell(results, number, series, name, x, column, place):
    metric, _, form = column
    edge = "edge" if place == 0 else ""
    value = results.value(number, series, name, x, metric)
    if value is None:
        return f'<td class="none {edge}">none</td>'
    values = results.all(number, series, name, x, metric)
    marks = ""
    if metric in ("p99_us", "mean_us") and results.flag(number, series, name, x, "at_least"):
        marks += "≥"
    if place == 0:
        if results.flag(number, series, name, x, "starved") and number in (1, 3, 5, 6, 8):
            marks += "s"
        if results.flag(number, series, name, x, "bound") == "generator":
            marks += "g"
        if results.flag(number, series, name, x, "disturbed"):
            marks += "d"
    spread = f' title="{form(min(values))} to {form(max(values))} in {len(values)} rounds"' if len(values) > 1 else ""
    return f'<td class="{edge}"{spread}>{form(value)}{f"<sup>{marks}</sup>" if marks else ""}</td>'


def referee_table(results, names, xs):
    """Our load generator beside wrk, at the points where both can measure."""
    rows = ""
    for x in xs:
        for name in names:
            pair = [[results.value(1, series, name, x, metric) for metric in ("rate", "p50_us", "cpu_us")] for series in ("kept", "wrk")]
            if None in pair[0] + pair[1]:
                continue
            ours, wrk = pair
            forms = (number, duration, duration)
            cells = "".join(f'<td class="edge">{form(a)}</td><td>{form(b)}</td><td>{b / a - 1:+.0%}</td>' for a, b, form in zip(ours, wrk, forms))
            rows += f'<tr><td class="first">{name}, {x:g}</td>{cells}</tr>'
    if not rows:
        return ""
    head = "".join(f'<th class="edge" colspan="3">{word}</th>' for word in ("answers a second", "median latency", "server's CPU an answer"))
    words = '<th class="edge">ours</th><th>wrk</th><th>differs</th>' * 3
    return f"""<div class="wide"><table><caption>Our load generator beside wrk</caption><tr><th class="first"></th>{head}</tr>
<tr><th class="first">server, connections</th>{words}</tr>{rows}</table></div><p class="small">{findings.referee(results)}</p>"""


def cost_tables(results, names):
    lines = [("calls", "calls", "system calls a request", number), ("used", "switches", "context switches a request", number),
             ("used", "cpu_us", "processor time a request", duration), ("used", "user_us", "of this in the server", duration),
             ("used", "system_us", "of this in the kernel", duration)]
    found = []
    for kind in ("kept", "one each"):
        xs = results.xs(7, f"used, {kind}") or results.xs(7, f"calls, {kind}")
        if not xs:
            continue
        rows = ""
        entries = [entry for key, group in results.good.items() if key[:2] == (7, f"calls, {kind}") for entry in group]
        called = sorted({metric for entry in entries for metric in entry["numbers"] if metric.startswith("call ")})
        for what, metric, word, form in lines + [("calls", metric, f"calls of {metric[5:]}", number) for metric in called]:
            cells = ""
            for name in names:
                value = results.value(7, f"{what}, {kind}", name, xs[0], metric)
                mark = "<sup>d</sup>" if results.flag(7, f"{what}, {kind}", name, xs[0], "disturbed") else ""
                cells += f'<td class="edge">{form(value)}{mark}</td>' if value is not None else '<td class="edge none">–</td>'
            rows += f'<tr><td class="first">{word}</td>{cells}</tr>'
        head = "".join(f'<th class="edge">{name}</th>' for name in names)
        found.append(f'<div class="wide"><table><caption>{SERIES[kind].capitalize()}</caption><tr><th class="first"></th>{head}</tr>{rows}</table></div>')
    return "".join(found)


def failures(results):
    failed = [entry for entry in results.data["rounds"] if not entry["ok"]]
    if not failed:
        return ""
    rows = "".join(
        f'<tr><td class="first">{entry["experiment"]}, {escape(entry["series"])} at {entry["x"]:g}, round {entry["round"]}</td>'
        f'<td class="first">{entry["server"]}</td><td class="first" style="white-space:normal">{escape(entry["problem"])}</td></tr>'
        for entry in failed[:200]
    )
    return f"<h2>Runs that failed</h2><p>They gave no number. Each was tried twice.</p><table>{rows}</table>"


if __name__ == "__main__":
    write(Path(sys.argv[2]), page(Results.load(sys.argv[1])))
