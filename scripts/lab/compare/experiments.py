"""The eight experiments: the load at each point, and the numbers to store.

An experiment is a list of points. Each point has a new server, so that nothing is left from the one before.
"""

import os
from dataclasses import dataclass
from typing import Callable

from . import wrk
from ..common import measure

PAGE = "/page.txt"
PAGE_SIZE = 1024
LARGE = "/large.bin"
LARGE_SIZE = 10 << 20
UPLOAD_SIZE = 1 << 20
SERVICE_RATE = 200  # requests a second of the normal client of experiment 4


@dataclass(frozen=True)
class Point:
    series: str
    x: float
    seconds: float  # the approximate length of the measurement
    run: Callable  # (lab, server) -> {"numbers": ..., "flags": ...}
    needs: int = 0  # how many open files the server or the load needs
    cores: str = "one"  # "all": the server may use every core


@dataclass(frozen=True)
class Experiment:
    number: int
    title: str
    points: list
    rivals: bool = False


def all_experiments(lab):
    return [
        concurrency(lab),
        offered_rate(lab),
        idle(lab),
        slow_clients(lab),
        waiting_handler(lab),
        file_sizes(lab),
        costs(lab),
        uploads(lab),
    ]


def quiet(numbers):
    """The outcome of a point without flags."""
    return {"numbers": numbers, "flags": {"bound": "neither", "at_least": False, "starved": False, "disturbed": False}}


# ---- 1

def concurrency(lab):
    counts = lab.pick([1, 16, 1024, 8192], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
    seconds = lab.pick(0.3, 1.5)

    def run(lab, server, count, close):
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        # With thousands of clients an answer takes a large part of a second: the window must be several times as long.
        window = seconds * (2 if count > 2000 else 1)
        return measure.load(
            lab, server, PAGE, connections=count, seconds=window, close=close, length=length, warm=0.15, ramp=lab.pick(0.4, 2)
        )

    def referee(lab, server, count):
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        return wrk.load(lab, server, PAGE, connections=count, seconds=lab.pick(1, 2), length=length)

    points = []
    for series, close in [("kept", False), ("one each", True)]:
        for count in counts:
            points.append(Point(series, count, seconds + 0.25 + count / 8000, lambda l, s, n=count, c=close: run(l, s, n, c), needs=count + 50))
            # The same load by wrk, up to the pool's size only: wrk does not count clients that wait without an answer.
            if series == "kept" and count in lab.pick([16], [1, 16]):
                points.append(Point("wrk", count, lab.pick(1.3, 2.3), lambda l, s, n=count: referee(l, s, n)))
    return Experiment(1, "Throughput and latency against concurrent connections", points, rivals=True)


# ---- 2

def offered_rate(lab):
    """The rates of the points are shares of the server's capacity, which is its rate under a closed loop."""
    shares = lab.pick([0.3, 0.6, 0.9, 1.2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.3])
    seconds, warm = lab.pick(0.4, 2.0), lab.pick(0.1, 0.2)

    def capacity(lab, server):
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        outcome = measure.load(lab, server, PAGE, connections=64, seconds=lab.pick(0.4, 1), close=True, length=length)
        lab.capacity[server.name] = outcome["numbers"]["rate"]
        return outcome

    def run(lab, server, share):
        if not lab.capacity.get(server.name):
            raise measure.Failed("its capacity could not be measured")
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        rate = share * lab.capacity[server.name]
        outcome = measure.load(
            lab, server, PAGE, connections=4000, seconds=seconds, close=True, length=length, rate=round(rate, 1), spin=True,
            warm=warm, drain=lab.pick(0.5, 3)
        )
        outcome["numbers"]["offered"] = rate
        outcome["numbers"]["middle"] = warm + seconds / 2
        return outcome

    points = [Point("capacity", 0, lab.pick(0.8, 1.4), capacity)]
    points += [Point("offered", share, seconds + 0.6, lambda l, s, x=share: run(l, s, x), needs=4100) for share in shares]
    return Experiment(2, "Latency against offered rate", points)


# ---- 3

def idle(lab):
    counts = lab.pick([1, 1000, 10000], [1, 10, 100, 300, 1000, 3000, 10000])

    def run(lab, server, count):
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        patience = lab.pick(0.3, 1.5)
        with measure.Crowd(lab, server, "idle", count, path=PAGE, length=length, patience=patience) as crowd:
            numbers = server.memory()
            numbers |= {"connections": count, "served": crowd.counts["answered"], "connected": crowd.counts["connected"]}
            lost = crowd.leave()["lost"]
        if not server.is_alive():
            raise measure.Failed(server.death())
        if lost > measure.LOST * count:
            raise measure.Failed(f"{lost} of {count} idle connections were cut off")
        outcome = quiet(numbers)
        outcome["flags"]["starved"] = numbers["served"] < count
        return outcome

    points = [Point("idle", count, 0.5 + count / 10000, lambda l, s, n=count: run(l, s, n), needs=count + 50) for count in counts]
    return Experiment(3, "Memory and threads against idle connections", points, rivals=True)


# ---- 4

def slow_clients(lab):
    counts = lab.pick([0, 19, 100], [0, 1, 3, 10, 19, 25, 50, 100, 300, 1000])
    seconds = lab.pick(0.5, 2.0)

    def run(lab, server, kind, count):
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        # The normal client opens a new connection for each request. Latency counts from the moment the request was due.
        ask = dict(connections=2000, seconds=seconds, close=True, length=length, rate=SERVICE_RATE, warm=0.1)
        if count == 0:
            outcome = measure.load(lab, server, PAGE, **ask)
        else:
            path = PAGE if kind == "drip" else LARGE
            with measure.Crowd(lab, server, kind, count, path=path, patience=0.2) as crowd:
                outcome = measure.load(lab, server, PAGE, beside=[crowd.process], **ask)
                after = crowd.leave()
                if after["lost"] > measure.LOST * count:
                    raise measure.Failed(f"{after['lost']} of {count} slow clients were cut off before the end")
        return outcome

    points = [
        Point(kind, count, seconds + 0.55, lambda l, s, k=kind, n=count: run(l, s, k, n), needs=2100 + count)
        for kind in ("drip", "sip")
        for count in counts
    ]
    return Experiment(4, "A normal client among slow ones", points, rivals=True)


# ---- 5

WAITING_CLIENTS = 100


def waiting_handler(lab):
    waits = lab.pick([0, 0.003, 0.02, 0.1], [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0])

    def run(lab, server, wait):
        path = f"/debug/delay/{wait:g}"
        length = measure.reference(server, path)
        # The window holds at least four waits, and the clients start spread over one wait, so that there are no bursts.
        seconds = max(lab.pick(0.4, 1.5), 4 * wait)
        return measure.load(
            lab, server, path, connections=WAITING_CLIENTS, seconds=seconds, close=True, length=length,
            stagger=wait or None, warm=wait + 0.1,
        )

    points = [Point("wait", wait, max(lab.pick(0.4, 1.5), 4 * wait) + 3 * wait + 0.3, lambda l, s, w=wait: run(l, s, w)) for wait in waits]
    return Experiment(5, "Throughput against the time that a handler waits", points)


# ---- 6

SIZE_CLIENTS = 4


def file_sizes(lab):
    sizes = lab.pick([1 << 10, 64 << 10, 1 << 20, 10 << 20], [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 10 << 20])
    plain, packed = lab.pick(0.25, 1.5), lab.pick(0.35, 2.0)

    def run(lab, server, size, compressed, seconds):
        path = f"/size-{size}.txt"
        length = measure.reference(server, path, file=lab.site / path[1:], compressed=compressed)
        field = "Accept-Encoding: gzip" if compressed else None
        outcome = measure.load(lab, server, path, connections=SIZE_CLIENTS, seconds=seconds, length=length, field=field, finish=6)
        numbers = outcome["numbers"]
        if not numbers["answers"]:
            raise measure.Failed("no answer was whole, so none could be checked")
        # Few large bodies end within the window, so the rate is computed from bytes: these are counted exactly.
        if size >= 1 << 16:
            numbers["rate"] = numbers["bytes_per_s"] / length
            numbers["cpu_us"] = numbers["server_busy"] / numbers["rate"] * 1e6 if numbers["rate"] else None
        numbers["content_per_s"] = numbers["rate"] * size
        numbers["coded_size"] = length
        return outcome

    points = [
        Point(series, size, seconds + 0.35 + (size / 5e6 if compressed else 0), lambda l, s, n=size, c=compressed, t=seconds: run(l, s, n, c, t))
        for series, compressed, seconds in [("plain", False, plain), ("gzip", True, packed)]
        for size in sizes
    ]
    # With more cores: threads can use them, the event loop cannot.
    if len(lab.cores[2]) > 1:
        for size in sizes[-2:-1] if lab.quick else sizes:
            points.append(Point("gzip, all cores", size, packed + 0.35 + size / 8e6, lambda l, s, n=size: run(l, s, n, True, packed), cores="all"))
    return Experiment(6, "File sizes, compressed and not", points)


# ---- 7

COST_CLIENTS = 16


def costs(lab):
    seconds = lab.pick(0.4, 2.0)

    def used(lab, server, close):
        """CPU time and context switches of the server from its start to its end, from its rusage."""
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        outcome = measure.load(lab, server, PAGE, connections=COST_CLIENTS, seconds=seconds, close=close, length=length)
        usage = server.stop()
        answers = outcome["numbers"]["answers"]
        if usage is None or not answers:
            raise measure.Failed("nothing was answered" if usage else server.death())
        outcome["numbers"] |= {
            "user_us": usage.ru_utime / answers * 1e6,
            "system_us": usage.ru_stime / answers * 1e6,
            "cpu_us": (usage.ru_utime + usage.ru_stime) / answers * 1e6,
            "switches": (usage.ru_nvcsw + usage.ru_nivcsw) / answers,
        }
        return outcome

    def calls(lab, server, close):
        """System calls, counted by strace. strace makes the server ten times slower, so no other number of this run is used."""
        length = measure.reference(server, PAGE, file=lab.site / PAGE[1:])
        outcome, by_name = measure.traced(
            lab, server, lambda: measure.load(
                lab, server, PAGE, connections=COST_CLIENTS, seconds=seconds, warm=0.1, close=close, length=length, limit=30
            )
        )
        answers = outcome["numbers"]["answers"]
        numbers = {"calls": sum(by_name.values()) / answers}
        numbers |= {f"call {name}": count / answers for name, count in by_name.items() if count / answers >= 0.005}
        result = quiet(numbers)
        result["flags"]["starved"] = outcome["flags"]["starved"]
        return result

    points = [
        Point(f"{what}, {series}", COST_CLIENTS, seconds + extra, lambda l, s, f=function, c=close: f(l, s, c))
        for what, function, extra in [("used", used, 0.35), ("calls", calls, 0.4)]
        for series, close in [("kept", False), ("one each", True)]
    ]
    return Experiment(7, "What a request costs", points)


# ---- 8

def uploads(lab):
    counts = lab.pick([1, 16, 128], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    seconds = lab.pick(0.4, 2.0)

    def run(lab, server, count):
        for old in lab.store.iterdir():
            old.unlink()
        source = lab.scratch / "upload.bin"
        # The window must be long enough for one upload of each client, at 300 MB/s.
        window = max(seconds, count * UPLOAD_SIZE / 300e6)
        outcome = measure.load(
            lab, server, "/files/up-%d", method="POST", upload=source, connections=count, seconds=window, close=True, status=201, length=0
        )
        content = source.read_bytes()
        stored = [path for path in lab.store.iterdir() if path.name.startswith("up-")]
        for path in stored:
            if path.read_bytes() != content:
                raise measure.Failed(f"{path.name} was stored with other bytes")
        if len(stored) < outcome["numbers"]["served"]:
            raise measure.Failed(f"{outcome['numbers']['served']} clients got 201, but {len(stored)} files are stored")
        outcome["numbers"]["content_per_s"] = outcome["numbers"]["rate"] * UPLOAD_SIZE
        return outcome

    points = [Point("upload", count, seconds + 0.5, lambda l, s, n=count: run(l, s, n)) for count in counts]
    return Experiment(8, "Uploads, many at once", points)


def write_site(site, scratch):
    """Writes the files of the site. They are text of a few hundred different words, which compresses about as well as web pages."""
    words = "wind dust sand heat air rises turns slowly above the plain and a column stands where nothing was before".split()
    random, line, text = 1, [], []
    total = 0
    while total < LARGE_SIZE:
        random = (random * 1103515245 + 12345) % (1 << 31)
        line.append(words[random >> 16 & 15] + (f"{random >> 8 & 255:x}" if random >> 24 & 3 == 0 else ""))
        if len(line) == 12:
            text.append(" ".join(line))
            total += len(text[-1]) + 1
            line = []
    content = "\n".join(text).encode()[:LARGE_SIZE].ljust(LARGE_SIZE)
    for exponent in range(10, 24):
        (site / f"size-{1 << exponent}.txt").write_bytes(content[: 1 << exponent])
    (site / f"size-{LARGE_SIZE}.txt").write_bytes(content)
    (site / PAGE[1:]).write_bytes(content[:PAGE_SIZE])
    noise = os.urandom(UPLOAD_SIZE)
    (site / LARGE[1:]).write_bytes(noise * (LARGE_SIZE // UPLOAD_SIZE))
    (scratch / "upload.bin").write_bytes(noise)
