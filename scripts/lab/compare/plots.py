"""Draws the figures: measurements as lines with markers, the simple model as a broad pale band in the same colour.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart; markers and line styles differ as well. A
hollow marker has a caveat: starved, unanswered, or the generator was the bottleneck.
"""

import io
import math
import re

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator  # noqa: E402

from . import engines, models  # noqa: E402

STYLES = {  # colour, marker, line
    "event": ("#0072B2", "o", "-"),
    "threads": ("#D55E00", "s", (0, (5, 2))),
    "pool": ("#009E73", "^", (0, (5, 1.5, 1, 1.5))),
    "iterative": ("#000000", "D", (0, (1.5, 1.5))),
    "nginx": ("#CC79A7", "v", (0, (5, 2))),
    "lighttpd": ("#E69F00", "P", (0, (5, 1.5, 1, 1.5))),
    "tornado": ("#56B4E9", "X", (0, (1.5, 1.5))),
    "http.server": ("#882255", "*", (0, (8, 2, 1, 2, 1, 2))),
}
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.axisbelow": True,
    }
)


# ---- words on axes

def plain(value, _=None):
    """1, 10, 1,000, 8,192"""
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}"


def duration(us, _=None):
    """Microseconds as µs, ms or s."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size * 0.9995:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} µs"


def speed(count, _=None):
    """Bytes a second, in decimal units, as is usual for networks."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= one * 0.9995:
            return f"{count / one:.3g} {unit}"
    return f"{count:.3g}"


def size(count, _=None):
    """Bytes in memory or in a file, in binary units."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= one * 0.9995:
            return f"{count / one:.3g} {unit}"
    return f"{count:.3g} B"


# ---- parts

class Figure:
    """Panels in rows and columns, with one legend above."""

    def __init__(self, results, experiment, names, rows, columns, height=3.1):
        self.results, self.experiment, self.names = results, experiment, names
        self.figure, axes = pyplot.subplots(rows, columns, figsize=(10.4, height * rows + 0.5), squeeze=False)
        self.axes = [axis for row in axes for axis in row]
        self.has_model = False
        self.extra = []  # more entries for the legend
        self.number = 0

    def panel(self, title, xlabel, ylabel, x="log", y="log", xformat=plain, yformat=plain, xticks=None):
        axis = self.axes[self.number]
        self.number += 1
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        for which, scale, form in ((axis.xaxis, x, xformat), (axis.yaxis, y, yformat)):
            if scale == "log":
                (axis.set_xscale if which is axis.xaxis else axis.set_yscale)("log")
                which.set_minor_locator(NullLocator())
                which.set_minor_formatter(NullFormatter())
            which.set_major_formatter(FuncFormatter(form))
        if xticks:
            axis.set_xticks(xticks)
            axis.xaxis.set_minor_locator(NullLocator())
            if len(xticks) > 8:
                axis.tick_params(axis="x", labelrotation=60)
        return axis

    def measured(self, axis, series, metric, scale=1, xmetric=None, hollow=("starved",), shift=0, xscale=1):
        """Draws the medians and the range of the rounds. x is the point's own x, or the metric `xmetric`."""
        for name in self.names:
            color, marker, line = STYLES[name]
            xs, ys, low, high, empty = [], [], [], [], []
            for x in self.results.xs(self.experiment, series, name):
                if x == 0 and not shift and not xmetric:
                    continue  # a logarithmic axis has no 0, so this point is in the table only
                values = self.results.all(self.experiment, series, name, x, metric)
                at = self.results.value(self.experiment, series, name, x, xmetric) if xmetric else x * xscale + shift
                if not values or at is None:
                    continue
                y = self.results.value(self.experiment, series, name, x, metric) * scale
                xs.append(at)
                ys.append(y)
                low.append(y - min(values) * scale)
                high.append(max(values) * scale - y)
                flags = {flag: self.results.flag(self.experiment, series, name, x, flag) for flag in ("starved", "at_least")}
                flags["generator"] = self.results.flag(self.experiment, series, name, x, "bound") == "generator"
                empty.append(any(flags[flag] for flag in hollow))
            if not xs:
                continue
            axis.plot(xs, ys, color=color, linestyle=line, linewidth=1.8, zorder=3)
            if any(low) or any(high):
                axis.errorbar(xs, ys, yerr=[low, high], fmt="none", ecolor=color, elinewidth=1, capsize=2.5, alpha=0.7)
            for x, y, hole in zip(xs, ys, empty):
                axis.plot([x], [y], color=color, marker=marker, markersize=6.5, markerfacecolor="white" if hole else color, zorder=4)

    def model(self, axis, function, xs):
        """Draws a band for each server for which the model gives values."""
        for name in self.names:
            points = [(x, function(name, x)) for x in xs]
            points = [(x, y) for x, y in points if y is not None]
            if points:
                self.band(axis, name, points)

    def band(self, axis, name, points):
        """Draws one band. Its end has the server's marker, so that the colour alone does not have to identify it."""
        color, marker, _ = STYLES[name]
        self.has_model = True
        axis.plot(*zip(*points), color=color, linewidth=7, alpha=0.2, solid_capstyle="butt", zorder=1)
        axis.plot(*points[-1], color=color, marker=marker, markersize=10, markeredgewidth=0, alpha=0.35, zorder=1)

    def svg(self, title):
        """The figure as an SVG element for the page."""
        for axis in self.axes[:self.number]:
            label_between_powers(axis)
        handles = [
            Line2D([], [], color=STYLES[name][0], marker=STYLES[name][1], linestyle=STYLES[name][2], linewidth=1.8, label=name)
            for name in self.names
        ]
        if self.has_model:
            handles.append(Line2D([], [], color="#666666", linewidth=7, alpha=0.3, label="simple model"))
        handles += self.extra
        handles.append(Line2D([], [], color="#666666", marker="o", linestyle="", markerfacecolor="white", label="has a caveat: see table"))
        for axis in self.axes[self.number:]:
            axis.set_visible(False)
        self.figure.tight_layout(rect=(0, 0, 1, 1 - 0.45 / self.figure.get_figheight()), h_pad=1.8, w_pad=2.2)
        self.figure.legend(handles=handles, loc="upper left", ncols=len(handles), frameon=False, handlelength=3.2 if len(handles) < 8 else 2.6, columnspacing=1.4 if len(handles) < 8 else 0.9, fontsize=10 if len(handles) < 8 else 9)
        out = io.StringIO()
        matplotlib.rcParams["svg.hashsalt"] = title
        self.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        pyplot.close(self.figure)
        text = out.getvalue()
        text = text[text.index("<svg"):]
        # The page holds several figures: ids must not repeat, and the page sets the width.
        text = re.sub(r'<g id="[^"]*">', "<g>", text)
        text = re.sub(r'<svg ([^>]*?)width="[^"]*pt"', r"<svg \1", re.sub(r'height="[^"]*pt" ', "", text, count=1), count=1)
        return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def label_between_powers(axis):
    """Labels more than the powers of ten on a logarithmic axis that spans few of them."""
    low, high = axis.get_ylim()
    if axis.get_yscale() == "log" and not isinstance(axis.yaxis.get_major_locator(), FixedLocator):
        powers = math.log10(high / low)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if powers < 2.6 else (1, 3) if powers < 4 else (1,)))


def bars(figure, axis, groups, form, model=None):
    """Draws bars side by side, each with its server's name below and its value above. `groups` is a list of (name, {server:
    value}); `model` has for each group the expected values, which become pale lines."""
    names = figure.names
    step = 0.86 / max(1, len(names))
    ticks, labels = [], []
    for place, (_, values) in enumerate(groups):
        for index, name in enumerate(names):
            middle = place + (index - (len(names) - 1) / 2) * step
            ticks.append(middle)
            labels.append(name)
            if values.get(name) is not None:
                bar = axis.bar(middle, values[name], width=step * 0.86, color=STYLES[name][0], zorder=2)
                axis.bar_label(bar, [form(values[name])], fontsize=8, padding=2, color="#222222")
            expected = (model or [{}] * len(groups))[place].get(name)
            if expected is not None:
                figure.has_model = True
                axis.plot([middle - step / 2, middle + step / 2], [expected] * 2, color="#000000", linewidth=7, alpha=0.3, solid_capstyle="butt", zorder=4)
    axis.set_xticks(ticks, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.12)
    axis.set_ylim(bottom=0)
    for place, (title, _) in enumerate(groups):
        axis.text(place, 1.0, title, transform=axis.get_xaxis_transform(), ha="center", va="bottom", fontsize=9, color="#444444")
    axis.set_title(axis.get_title(loc="left"), pad=20)


# ---- the figures, one function per experiment

def concurrency(results, names):
    figure = Figure(results, 1, names, 3, 2)
    counts = results.xs(1, "kept") or results.xs(1, "one each")
    ticks = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192) if n in counts][:: 2 if len(counts) > 8 else 1]
    kinds = [("kept", "connections kept"), ("one each", "one per request")]

    def basis(name, series):
        alone = results.value(1, series, name, 1, "p50_us")
        costs = [results.value(1, series, name, x, "cpu_us") for x in counts if x >= 16]
        costs = [cost for cost in costs if cost]
        return (alone / 1e6, min(costs) / 1e6) if alone and costs else None

    def rate(series):
        def at(name, count):
            known = basis(name, series)
            limit = engines.workers(name)
            if not known or name not in engines.ENGINES:
                return None
            at_once = min(count, limit) if limit and series == "kept" else count
            return models.rate(at_once, *known)
        return at

    def latency(series):
        def at(name, count):
            per_second = rate(series)(name, count)
            limit = engines.workers(name)
            inside = min(count, limit) if limit and series == "kept" else count
            return per_second and models.latency(inside, per_second) * 1e6
        return at

    for series, words in kinds:
        axis = figure.panel(f"Answers a second, {words}", "connections at once (log)", "answers a second (log)", xticks=ticks)
        figure.model(axis, rate(series), counts)
        figure.measured(axis, series, "rate", hollow=("starved", "generator"))
        if series == "kept":
            for name in names:
                for x in results.xs(1, "wrk", name):
                    axis.plot(x, results.value(1, "wrk", name, x, "rate"), color=STYLES[name][0], marker="x", markersize=9, zorder=5)
            figure.extra.append(Line2D([], [], color="#666666", marker="x", markersize=9, linestyle="", label="by wrk"))
    for series, words in kinds:
        axis = figure.panel(f"Median latency, {words}", "connections at once (log)", "median latency (log)", yformat=duration, xticks=ticks)
        figure.model(axis, latency(series), counts)
        figure.measured(axis, series, "p50_us", hollow=("starved",))
    axis = figure.panel("99th percentile, connections kept", "connections at once (log)", "99th percentile (log)", yformat=duration, xticks=ticks)
    figure.measured(axis, "kept", "p99_us", hollow=("starved",))
    axis = figure.panel("Connections that got an answer, connections kept", "connections at once (log)", "connections answered (log)", xticks=ticks)

    def served(name, count):
        limit = engines.workers(name)
        return (min(count, limit) if limit else count) if name in engines.ENGINES else None

    figure.model(axis, served, counts)
    figure.measured(axis, "kept", "served")
    return figure.svg("Throughput and latency against concurrent connections")


def offered_rate(results, names):
    figure = Figure(results, 2, names, 1, 2, height=3.8)
    shares = results.xs(2, "offered")

    def predicted(name, share):
        capacity = results.value(2, "capacity", name, 0, "rate")
        alone = results.value(2, "offered", name, min(shares, default=0), "mean_us")
        middle = results.value(2, "offered", name, share, "middle")
        if not (capacity and alone and middle):
            return None
        return models.queue(share * capacity, capacity, alone / 1e6, middle) * 1e6

    for title, metric in (("Mean latency", "mean_us"), ("99th percentile", "p99_us")):
        axis = figure.panel(f"{title} of a page", "pages asked for a second", f"{title.lower()} (log)", x="linear", yformat=duration)
        if metric == "mean_us":
            for name in names:
                curve = [(results.value(2, "offered", name, x, "offered"), predicted(name, x)) for x in shares]
                curve = [pair for pair in curve if None not in pair]
                if curve:
                    figure.band(axis, name, curve)
        figure.measured(axis, "offered", metric, xmetric="offered", hollow=("at_least", "generator"))
        axis.set_xlim(left=0)
    return figure.svg("Latency against offered rate")


def idle(results, names):
    figure = Figure(results, 3, names, 1, 2, height=3.8)
    counts = results.xs(3, "idle")
    most = max(counts, default=1)

    def slope(name):
        one, many = results.value(3, "idle", name, 1, "memory_kib"), results.value(3, "idle", name, most, "memory_kib")
        served = results.value(3, "idle", name, most, "served")
        return (many - one) / (served - 1) if None not in (one, many) and served and served > 1 else None

    def memory(name, count):
        per = slope("threads" if name in ("pool", "iterative") else name)
        one = results.value(3, "idle", name, 1, "memory_kib")
        return None if None in (per, one) or name not in engines.ENGINES else models.memory(one, per, count, engines.workers(name)) * 1024

    def threads(name, count):
        return {"event": 1, "threads": count + 2, "pool": engines.POOL_SIZE + 1, "iterative": 2}.get(name)

    axis = figure.panel("Memory", "idle connections (log)", "memory of the server (log)", yformat=size, xticks=counts)
    axis.yaxis.set_major_locator(FixedLocator([1 << power for power in range(16, 36, 2)]))
    figure.model(axis, memory, counts)
    figure.measured(axis, "idle", "memory_kib", scale=1024)
    axis = figure.panel("Threads", "idle connections (log)", "threads of the server (log)", xticks=counts)
    figure.model(axis, threads, counts)
    figure.measured(axis, "idle", "threads")
    return figure.svg("Memory and threads against idle connections")


def slow_clients(results, names):
    figure = Figure(results, 4, names, 1, 2, height=3.8)
    counts = results.xs(4, "drip") or results.xs(4, "sip")
    fine = sorted({*counts, *(n for n in (1, 19, 19.99, 20, 0.99) if n <= max(counts, default=0))})

    def predicted(series):
        def at(name, shown):
            alone = results.value(4, series, name, 0, "p99_us")
            limit = engines.workers(name)
            if not alone or name not in engines.ENGINES:
                return None
            return engines.HEADER_TIMEOUT * 1e6 if limit and shown - 1 >= limit else alone
        return at

    for series, words in (("drip", "N clients send a head, a byte a second"), ("sip", "N clients read 1 KiB a second")):
        axis = figure.panel(words, "slow clients, N (log)", "99th percentile of a normal client (log)", yformat=duration)
        figure.model(axis, predicted(series), [n + 1 for n in fine])
        figure.measured(axis, series, "p99_us", hollow=("at_least",), shift=1)
        axis.set_xticks([n + 1 for n in counts])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([plain(n) for n in counts], rotation=60 if len(counts) > 8 else 0)
    return figure.svg("A normal client among slow ones")


def waiting_handler(results, names):
    figure = Figure(results, 5, names, 1, 2, height=3.8)
    waits = [x for x in results.xs(5, "wait") if x > 0]

    def predicted(name, wait_us):
        t1 = 1 / results.value(5, "wait", name, 0, "rate") if results.value(5, "wait", name, 0, "rate") else None
        clients = results.value(5, "wait", name, 0, "connections")
        return None if not t1 else models.waiting_rate(clients, engines.workers(name), wait_us / 1e6, t1, 1 / t1)

    axis = figure.panel("Throughput", "the handler waits (log)", "answers a second (log)", xformat=duration)
    xs = [wait * 1e6 for wait in waits]
    figure.model(axis, predicted, xs)
    figure.measured(axis, "wait", "rate", xscale=1e6, hollow=("starved", "generator"))
    axis = figure.panel("Median latency", "the handler waits (log)", "median latency (log)", xformat=duration, yformat=duration)

    def little(name, wait_us):
        rate, clients = predicted(name, wait_us), results.value(5, "wait", name, 0, "connections")
        return rate and models.latency(clients, rate) * 1e6

    figure.model(axis, little, xs)
    figure.measured(axis, "wait", "p50_us", xscale=1e6)
    for axis in figure.axes[:2]:
        axis.set_xticks(xs)
        axis.xaxis.set_minor_locator(NullLocator())
    return figure.svg("Throughput against the time that a handler waits")


def file_sizes(results, names):
    figure = Figure(results, 6, names, 2, 2, height=3.2)
    sizes = results.xs(6, "plain") or results.xs(6, "gzip")

    def cost(series):
        """Computes the fixed cost from the smallest file, and the cost of a byte from the largest."""
        def at(name, count):
            least, most = (results.value(6, series, name, x, "rate") for x in (sizes[0], sizes[-1]))
            if not least or not most or sizes[0] == sizes[-1]:
                return None
            per_byte = (1 / most - 1 / least) / (sizes[-1] - sizes[0])
            return 1 / models.by_size(count, 1 / least - per_byte * sizes[0], per_byte)
        return at

    for series, words in (("plain", "as they are"), ("gzip", "compressed")):
        axis = figure.panel(f"Answers a second, {words}", "size of the file (log)", "answers a second (log)", xformat=size)
        axis.set_xticks(sizes)
        axis.xaxis.set_minor_locator(NullLocator())
        figure.model(axis, cost(series), sizes)
        figure.measured(axis, series, "rate", hollow=("generator",))
    axis = figure.panel("Content a second, as it is", "size of the file (log)", "bytes a second (log)", xformat=size, yformat=speed, xticks=sizes)
    figure.measured(axis, "plain", "content_per_s", hollow=("generator",))
    for axis in figure.axes[:3]:
        axis.tick_params(axis="x", labelrotation=0 if len(sizes) < 6 else 35)
    free = results.xs(6, "gzip, all cores")
    if free:
        axis = figure.panel(f"Compressed content a second, {size(free[-1])}", "", "bytes of content a second", x="linear", y="linear", yformat=speed)
        groups = [
            (words, {name: results.value(6, series, name, free[-1], "content_per_s") for name in names})
            for words, series in (("server on one core", "gzip"), ("server on all cores", "gzip, all cores"))
        ]
        bars(figure, axis, groups, speed)
    return figure.svg("File sizes, compressed and not")


def costs(results, names):
    figure = Figure(results, 7, names, 1, 3, height=3.8)
    kinds = ["kept", "one each"]
    panels = [
        ("System calls", "calls", "calls", "system calls a request", [2, 4]),
        ("Context switches", "used", "switches", "switches a request", None),
        ("Processor time", "used", "cpu_us", "time a request", None),
    ]
    for title, what, metric, label, least in panels:
        axis = figure.panel(title, "", label, x="linear", y="linear", yformat=duration if metric == "cpu_us" else lambda v, _: f"{v:g}")
        groups, expected = [], []
        for place, kind in enumerate(kinds):
            xs = results.xs(7, f"{what}, {kind}")
            values = {name: results.value(7, f"{what}, {kind}", name, xs[0], metric) for name in names} if xs else {}
            groups.append((("kept", "one per request")[place], values))
            expected.append(dict.fromkeys(names, least[place]) if least else predicted_cost(results, metric, kind, names))
        bars(figure, axis, groups, (lambda v: f"{v:.0f}") if metric == "cpu_us" else (lambda v: f"{v:.1f}"), expected)
    return figure.svg("What a request costs")


def predicted_cost(results, metric, kind, names):
    """Switches: a thread sleeps once for each request, or starts once for each connection. Time: the inverse of the best rate
    of experiment 1, where the core was full."""
    if metric == "switches":
        sleeps = {"event": 0, "iterative": 1 if kind == "kept" else 0}
        return {name: sleeps.get(name, 1) for name in names}
    best = {}
    for name in names:
        xs = [x for x in results.xs(1, kind, name) if results.flag(1, kind, name, x, "bound") == "server"]
        if xs:
            best[name] = 1e6 / max(results.value(1, kind, name, x, "rate") for x in xs)
    return best


def uploads(results, names):
    figure = Figure(results, 8, names, 1, 2, height=3.8)
    counts = results.xs(8, "upload")

    def best(name):
        costs = [results.value(8, "upload", name, x, "cpu_us") for x in counts]
        costs = [cost for cost in costs if cost]
        return 1e6 / min(costs) if costs else None

    def rate(name, count):
        alone = results.value(8, "upload", name, 1, "p50_us")
        most = best(name)
        return models.rate(count, alone / 1e6, 1 / most) * results.data["settings"]["upload_bytes"] if alone and most else None

    def latency(name, count):
        per_second = rate(name, count)
        return per_second and models.latency(count, per_second / results.data["settings"]["upload_bytes"]) * 1e6

    axis = figure.panel("Content stored", "uploads at once (log)", "bytes a second", y="linear", yformat=speed, xticks=counts)
    figure.model(axis, rate, counts)
    figure.measured(axis, "upload", "content_per_s", hollow=("starved", "generator"))
    axis.set_ylim(bottom=0)
    axis = figure.panel("Time of an upload", "uploads at once (log)", "median (log)", yformat=duration, xticks=counts)
    figure.model(axis, latency, counts)
    figure.measured(axis, "upload", "p50_us", hollow=("starved",))
    return figure.svg("Uploads, many at once")


FIGURES = {1: concurrency, 2: offered_rate, 3: idle, 4: slow_clients, 5: waiting_handler, 6: file_sizes, 7: costs, 8: uploads}
