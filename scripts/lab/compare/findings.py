"""The result of each experiment and its reason, in one or two sentences with the numbers of the run.

If a number is missing, its sentence is left out. If the numbers do not show what was expected, another sentence is chosen.
"""

from .plots import duration, plain, size, speed

TITLES = {
    1: "Throughput and latency against concurrent connections",
    2: "Latency against offered rate",
    3: "Memory and threads against idle connections",
    4: "A normal client among slow ones",
    5: "Throughput against the time that a handler waits",
    6: "File sizes, compressed and not",
    7: "What a request costs",
    8: "Uploads, many at once",
}


class Unknown(Exception):
    """A number that a sentence needs was not measured."""


class Numbers:
    """The medians of one experiment, for the sentences."""

    def __init__(self, results, experiment):
        self.results, self.experiment = results, experiment

    def __call__(self, series, name, x, metric):
        value = self.results.value(self.experiment, series, name, x, metric)
        if value is None:
            raise Unknown
        return value

    def xs(self, series):
        xs = self.results.xs(self.experiment, series)
        if not xs:
            raise Unknown
        return xs

    def flag(self, series, name, x, flag):
        return self.results.flag(self.experiment, series, name, x, flag)


def sentence(results, number):
    try:
        return SENTENCES[number](Numbers(results, number), results.data["settings"])
    except Unknown:
        return "Too little was measured for a finding."


def ratio(value):
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def rate(value):
    return f"{value:,.0f}" if value < 1000 else f"{round(value, -2):,.0f}"


# ---- one function per experiment

def concurrency(of, settings):
    many = [x for x in of.xs("kept") if x > settings["pool_size"]]
    if not many:
        raise Unknown
    at = min(many, key=lambda x: abs(x - 1024))
    top = many[-1]
    event, threads = of("kept", "event", at, "rate"), of("kept", "threads", at, "rate")
    left_out = {name: at - of("kept", name, at, "served") for name in ("event", "threads")}
    answered = "; both answer every connection"
    if any(left_out.values()):
        answered = "; " + " and ".join(f"{name} had not answered {plain(count)} of them when the run ended" for name, count in left_out.items() if count)
    first, second = ("event", "threads") if event >= threads else ("threads", "event")
    closing = [of("one each", name, at, "rate") for name in ("event", "threads")]
    text = (
        f"With {plain(at)} kept connections <b>{first}</b> gives {rate(max(event, threads))} answers a second and <b>{second}</b> {rate(min(event, threads))} "
        f"({ratio(max(event, threads) / min(event, threads))} to 1){answered}; <b>pool</b> answers {plain(of('kept', 'pool', at, 'served'))} of the connections "
        f"and <b>iterative</b> {plain(of('kept', 'iterative', at, 'served'))}, because a kept connection holds its worker, and the other connections are never served. "
    )
    text += (
        f"With a connection per request all four serve every client, and making connections is the main cost: event {rate(closing[0])}, threads {rate(closing[1])} a second. "
        f"When the core is full, more clients only increase the latency: at {plain(top)} the median of event is {duration(of('kept', 'event', top, 'p50_us'))}, "
        f"against {duration(of('kept', 'event', at, 'p50_us'))} at {plain(at)}."
    )
    return text


def offered_rate(of, _settings):
    shares = of.xs("offered")
    low = shares[0]
    near = max((x for x in shares if x <= 0.95), default=None)
    over = shares[-1]
    if near is None or over <= 1:
        raise Unknown
    capacity = {name: of("capacity", name, 0, "rate") for name in ("event", "threads", "pool", "iterative")}
    best, least = max(capacity, key=capacity.get), min(capacity, key=capacity.get)
    text = (
        f"With a new connection for each request <b>{best}</b> has the highest capacity, {rate(capacity[best])} pages a second, and <b>{least}</b> the lowest, {rate(capacity[least])}. "
        f"Event's 99th percentile goes from {duration(of('offered', 'event', low, 'p99_us'))} at {low:.0%} of its capacity to "
        f"{duration(of('offered', 'event', near, 'p99_us'))} at {near:.0%}, and at {over:.0%} to {duration(of('offered', 'event', over, 'p99_us'))}: "
    )
    if of("offered", "event", over, "p99_us") > 5 * of("offered", "event", near, "p99_us"):
        return text + "latency stays low until the server is nearly full. Above its capacity the queue of any engine grows for as long as the load lasts."
    return text + "here the queue was still short when the run ended, or the capacity was measured too low."


def idle(of, _settings):
    top = of.xs("idle")[-1]
    if top < 2:
        raise Unknown
    each = {}
    for name in ("event", "threads"):
        served = of("idle", name, top, "served")
        each[name] = (of("idle", name, top, "memory_kib") - of("idle", name, 1, "memory_kib")) * 1024 / max(1, served - 1)
    return (
        f"With {plain(top)} idle connections <b>event</b> holds {size(of('idle', 'event', top, 'memory_kib') * 1024)} in {plain(of('idle', 'event', top, 'threads'))} "
        f"thread and <b>threads</b> {size(of('idle', 'threads', top, 'memory_kib') * 1024)} in {plain(of('idle', 'threads', top, 'threads'))}: "
        f"{each['event']:,.0f} bytes a connection against {each['threads']:,.0f}, because a waiting thread keeps its stacks, one of them in the kernel. "
        f"<b>Pool</b> and <b>iterative</b> stay small because they serve few connections: {plain(of('idle', 'pool', top, 'served'))} and "
        f"{plain(of('idle', 'iterative', top, 'served'))} of {plain(top)} got an answer."
    )


def slow_clients(of, settings):
    texts = []
    for series, words in (("drip", "send their request a byte a second"), ("sip", "read their answer slowly")):
        xs = of.xs(series)
        at = min((x for x in xs if x > settings["pool_size"]), key=lambda x: abs(x - 100), default=None)
        if at is None:
            raise Unknown
        good, bad = [], []
        for name in ("event", "threads", "pool", "iterative"):
            alone, now = of(series, name, 0, "p99_us"), of(series, name, at, "p99_us")
            lost = of(series, name, at, "unanswered")
            if lost > 0.01:
                bad.append(f"<b>{name}</b> leaves {lost:.0%} of a normal client's requests without an answer")
            else:
                good.append(f"<b>{name}</b> gives a normal client a 99th percentile of {duration(now)} ({duration(alone)} without them)")
        text = f"While {plain(at)} clients {words}, "
        texts.append(text + "; ".join(good + bad) + ".")
    return (
        " ".join(texts) + f" A slow client holds one entry of a table in <b>event</b> and one thread in <b>threads</b>. In <b>pool</b> it holds one of {settings['pool_size']} workers, "
        "in <b>iterative</b> the only one."
    )


def waiting_handler(of, settings):
    waits = [x for x in of.xs("wait") if x >= 0.01]
    if not waits:
        raise Unknown
    at = waits[0] if waits[0] >= 0.03 else min(waits, key=lambda x: abs(x - 0.1))
    ceiling = settings["pool_size"] / at
    pool = of("wait", "pool", at, "rate")
    return (
        f"When the handler waits {duration(at * 1e6)}, <b>pool</b> gives {rate(pool)} answers a second: its ceiling is {settings['pool_size']} workers ÷ {duration(at * 1e6)} = "
        f"{rate(ceiling)}, on any machine. <b>Iterative</b> gives {ratio(of('wait', 'iterative', at, 'rate'))} (1 ÷ wait = {ratio(1 / at)}), while <b>event</b> "
        f"({rate(of('wait', 'event', at, 'rate'))}) and <b>threads</b> ({rate(of('wait', 'threads', at, 'rate'))}) have all {settings['waiting_clients']} clients wait at the same time "
        f"({rate(settings['waiting_clients'] / at)} at most)."
    )


def file_sizes(of, _settings):
    sizes = of.xs("plain")
    small, large = sizes[0], sizes[-1]
    if small == large:
        raise Unknown

    def takes_over(series):
        least, most = 1 / of(series, "event", small, "rate"), 1 / of(series, "event", large, "rate")
        per_byte = (most - least) / (large - small)
        return max(least - per_byte * small, 0) / per_byte

    slower = of("plain", "event", large, "content_per_s") / of("gzip", "event", large, "content_per_s")
    moving, packing = (f"from about {size(max(at, small))} on" for at in map(takes_over, ("plain", "gzip")))
    text = (
        f"The cost of a small answer does not depend on its size. In <b>event</b>, copying costs more than the rest {moving}, and compressing {packing}. At {size(large)} it sends {speed(of('plain', 'event', large, 'content_per_s'))} of content a second uncompressed and "
        f"{speed(of('gzip', 'event', large, 'content_per_s'))} compressed: {ratio(slower)} times less. "
    )
    try:
        free = of.xs("gzip, all cores")[-1]
        gain = {name: of("gzip, all cores", name, free, "content_per_s") / of("gzip", name, free, "content_per_s") for name in ("event", "threads")}
    except Unknown:
        return text
    text += f"With all cores <b>threads</b> compresses {ratio(gain['threads'])} times as much and <b>event</b> {ratio(gain['event'])} times as much: "
    if gain["threads"] > 1.25 * gain["event"]:
        return text + "for work that needs the processor, the single thread of the loop is the limit."
    return text + "here more cores made little difference."


def costs(of, settings):
    x = settings["cost_clients"]
    calls = {name: of("calls, kept", name, x, "calls") for name in ("event", "threads")}
    new = {name: of("calls, one each", name, x, "calls") for name in ("event", "threads")}
    switches = {name: of("used, kept", name, x, "switches") for name in ("event", "threads")}
    cpu = {name: of("used, kept", name, x, "cpu_us") for name in ("event", "threads")}
    text = (
        f"On a kept connection <b>event</b> makes {calls['event']:.2f} system calls a request and <b>threads</b> {calls['threads']:.2f}; on a new one {new['event']:.1f} and {new['threads']:.1f}. "
        f"Event has {switches['event']:.2g} context switches a request and threads {switches['threads']:.2g}, and a request takes {cpu['event']:.1f} µs of processor time "
        f"against {cpu['threads']:.1f} µs: "
    )
    if cpu["threads"] > 1.05 * cpu["event"]:
        return text + "one wait for many connections costs less than a wait for each."
    if cpu["event"] > 1.05 * cpu["threads"]:
        return text + "a thread that only reads and writes needs fewer system calls than a loop that first asks which connections are ready."
    return text + "both cost about the same."


def uploads(of, _settings):
    counts = of.xs("upload")
    one, top = counts[0], counts[-1]
    names = ("event", "threads", "pool", "iterative")
    stored = {name: of("upload", name, top, "content_per_s") for name in names}
    best, least = max(stored, key=stored.get), min(stored, key=stored.get)
    text = (
        f"With {plain(top)} uploads at once <b>{best}</b> stores {speed(stored[best])} a second and <b>{least}</b> {speed(stored[least])} "
        f"({ratio(stored[best] / stored[least])} to 1). In event a single upload takes {duration(of('upload', 'event', one, 'p50_us'))}, and one of {plain(top)} at once takes "
        f"{duration(of('upload', 'event', top, 'p50_us'))}. "
    )
    if stored[best] < 1.5 * stored[least]:
        return text + "The engines seldom wait here, because there is always something to read; so they differ little."
    return text + "An engine that handles one upload at a time waits for the next bytes of that upload only."


SENTENCES = {1: concurrency, 2: offered_rate, 3: idle, 4: slow_clients, 5: waiting_handler, 6: file_sizes, 7: costs, 8: uploads}


# ---- further sentences

def bottleneck(results, number):
    """A sentence: at how many points the load generator was the limit, and at how many other programs used the cores."""
    counts, total, disturbed = {}, 0, 0
    for (experiment, series, name, x), entries in results.good.items():
        if experiment != number or "server_busy" not in entries[0]["numbers"]:
            continue
        total += 1
        bound = results.flag(experiment, series, name, x, "bound")
        counts.setdefault(bound, []).append((series, name, x))
        disturbed += bool(results.flag(experiment, series, name, x, "disturbed"))
    if not total:
        return ""
    server, generator = len(counts.get("server", [])), counts.get("generator", [])
    text = f"the server's core was full in {server} of {total} points"
    if "one core for both" in counts:
        text = "server and load shared one core, so that the bottleneck is not known"
    if generator:
        where = sorted({f"{name} ({series})" for series, name, _ in generator})
        text += f"; in {len(generator)} the generator's core was full and the server's was not, so these points measure the generator: {', '.join(where)}"
    else:
        text += "; the generator was never the limit"
    text += "; at the other points both cores had time left, because both waited, for each other or for a timer"
    if disturbed:
        text += f". In {disturbed} of {total} points every measurement was disturbed, by other programs or by a slow core"
    return text + "."


def disturbed(results):
    """A warning for the top of the page if more than a tenth of the measurements were disturbed."""
    entries = [entry for entry in results.data["rounds"] if entry["ok"]]
    count = sum(entry["flags"]["disturbed"] for entry in entries)
    if count < 0.1 * len(entries):
        return []
    return [
        f"Other programs, or a slow core, disturbed {count} of {len(entries)} measurements. On a quiet machine rates would be "
        "higher and latencies lower; memory, system calls and processor time a request hardly change. Repeat the run."
    ]


def referee(results):
    """Sentences about the differences between our load generator and wrk."""
    apart = []
    for x in results.xs(1, "wrk"):
        for name in results.servers(1):
            ours, wrk = results.value(1, "kept", name, x, "cpu_us"), results.value(1, "wrk", name, x, "cpu_us")
            if ours and wrk:
                apart.append(abs(wrk / ours - 1))
    if not apart:
        return ""
    return (
        f"The processor time of an answer should not depend on the generator. With wrk and with ours it differs by {sorted(apart)[len(apart) // 2]:.0%} in the median and {max(apart):.0%} "
        "at most. Rates may differ more: the server waits for a slower generator."
    )


def rivals(results, number):
    """A sentence that compares the engine event with the other servers, by the main number of the experiment."""
    try:
        return RIVALS[number](Numbers(results, number), [name for name in results.servers(number) if name not in ("event", "threads", "pool", "iterative")])
    except Unknown:
        return "Too little was measured for a finding."


def rivals_concurrency(of, names):
    at = min(of.xs("kept"), key=lambda x: abs(x - 64))
    parts = []
    for name in ["event", *names]:
        try:
            parts.append(f"<b>{name}</b> {rate(of('kept', name, at, 'rate'))}")
        except Unknown:
            continue
    return f"Answers a second with {plain(at)} kept connections, each server on one core: {', '.join(parts)}."


def rivals_idle(of, names):
    parts = []
    for name in ["event", *names]:
        xs = [x for x in of.results.xs(3, "idle", name) if x > 1]
        try:
            served = of("idle", name, xs[-1], "served") if xs else 0
            if served > 1:
                each = (of("idle", name, xs[-1], "memory_kib") - of("idle", name, 1, "memory_kib")) * 1024 / (served - 1)
                parts.append(f"<b>{name}</b> {each:,.0f}")
        except Unknown:
            continue
    return f"Bytes of memory for each idle connection, between one connection and the most that each server kept: {', '.join(parts)}."


def rivals_slow(of, names):
    at = of.xs("drip")[-1]
    parts = []
    for name in ["event", *names]:
        try:
            lost = of("drip", name, at, "unanswered")
            value = f"{lost:.0%} unanswered" if lost > 0.01 else duration(of("drip", name, at, "p99_us"))
            parts.append(f"<b>{name}</b> {value}")
        except Unknown:
            continue
    return f"A normal client's 99th percentile while {plain(at)} clients send their request a byte a second: {', '.join(parts)}."


RIVALS = {1: rivals_concurrency, 3: rivals_idle, 4: rivals_slow}
