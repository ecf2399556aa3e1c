"""The rows of the table: what each measures, and how."""

import gzip
import json
import random
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable

from ..common import measure, processes
from . import hostile, peers

IDLE = 9000
RANDOM_FILES = 1000
UPLOAD_CLIENTS = 8
DOWNLOADS, UPLOADS = 8, 4  # clients beside the small requests of "mixed"
SMALL_RATE = 500  # small requests a second, far below what any server can do
HOSTILE_GOAL = 20  # ms: the current turn of at most 10 ms when a request arrives, and the turn that answers it
STARTS = 5  # starts in a round; its figure is their median
MIB = 1 << 20

# The head of a browser's first request to a server: 700 bytes with the request line.
BROWSER = "\r\n".join(
    [
        "Connection: keep-alive",
        'sec-ch-ua: "Chromium";v="124", "Not-A.Brand";v="99"',
        "sec-ch-ua-mobile: ?0",
        'sec-ch-ua-platform: "Linux"',
        "Upgrade-Insecure-Requests: 1",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-User: ?1",
        "Sec-Fetch-Dest: document",
        "Referer: http://127.0.0.1/",
        "Accept-Encoding: identity",
        "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    ]
)


@dataclass
class Row:
    name: str  # for --rows
    title: str
    limit: Callable  # the arguments of the bare loop, from the lab
    goal: float
    against: str = "limit"  # the goal is a fraction of this peer's figure. "": the goal is a figure
    unit: str = "requests per CPU second"
    file: str = "1k.html"  # the file of the site that is asked for
    needs: str = ""  # what a peer must be able to do
    connections: int = 64
    status: int = 200
    fields: str = ""
    options: dict = field(default_factory=dict)  # more flags of the load
    run: Callable = None  # (lab, peer, server, row, seconds) -> numbers and flags. None: the row is a plain load
    cold: bool = False  # `run` starts the servers itself

    @property
    def less_is_better(self):
        return not self.unit.endswith("CPU second")

    def is_load(self):
        return self.run is None


def all_rows():
    def sends(name, *more):
        return lambda lab: ["--file", lab.site / name, *more]

    small = sends("1k.html")
    return [
        Row("1k", "1 KiB file, kept connections, 64", small, 0.92),
        Row("1k-512", "the same, 512 connections", small, 0.92, connections=512),
        Row("10k", "10 KiB file", sends("10k.html"), 0.92, file="10k.html"),
        Row("100k", "100 KiB file", lambda lab: ["--sendfile", lab.site / "100k.html"], 0.95, file="100k.html"),
        Row(
            "10m", "10 MiB file, 8 connections", lambda lab: ["--sendfile", lab.site / "10m.bin"], 1.0,
            unit="bytes per CPU second", file="10m.bin", connections=8,
        ),
        Row("close", "a connection for each request", sends("1k.html", "--close"), 0.95, options={"close": True}),
        Row("pipelined", "16 requests at once, pipelined", small, 0.5, options={"pipeline": 16}),
        Row("404", "404", lambda lab: ["--file", lab.scratch / "missing.html", "--status", 404], 0.9, file="missing.html", status=404),
        Row("head", "HEAD", sends("1k.html", "--head"), 0.9, options={"method": "HEAD"}),
        Row("304", "304", sends("1k.html", "--status", 304), 0.9, status=304),
        Row("random", f"{RANDOM_FILES:,} files of 0.5 to 4 KiB, at random", sends("mean.html"), 0.9, file="mean.html"),
        Row("browser", "a browser's request head, 700 bytes", small, 0.85, fields=BROWSER),
        Row("beside", f"beside {IDLE:,} idle connections", small, 0.9, run=beside_idle),
        Row("idle", "memory of an idle connection", small, 400, "", "bytes", run=memory_of_idle),
        Row(
            "gzip", "gzip of a 100 KiB page",
            lambda lab: ["--file", lab.scratch / "page.html.gz", "--header", "Content-Encoding: gzip\r\n"], 50, "nginx",
            file="page.html", needs="gzip", fields="Accept-Encoding: gzip",
        ),
        Row(
            "upload", f"upload of 10 MiB to memory, {UPLOAD_CLIENTS} connections", lambda lab: ["--upload", lab.store, "--status", 201], 1.0,
            unit="bytes per CPU second", needs="upload", connections=UPLOAD_CLIENTS, run=upload,
        ),
        Row(
            "mixed", f"p99 of small requests beside {DOWNLOADS} downloads and {UPLOADS} uploads of 10 MiB, to that without", small, 10, "",
            "times", needs="mixed", connections=1, run=mixed,
        ),
        Row(
            "hostile", "p99 of small requests beside hostile clients", small, HOSTILE_GOAL, "", "ms", needs="hostile",
            connections=hostile.CONNECTIONS, run=hostile.run,
        ),
        Row("log", "1 KiB file with the access log on", small, round(0.92 * 0.95, 2), needs="log"),
        Row("start", "start to first byte", small, 2.5, "", "ms", run=start, cold=True),
        Row("memory", "memory at rest", small, 5000, "", "KiB", run=memory_at_rest),
    ]


def write_site(lab):
    """Makes files that do not compress, and a page that does. They are the same in every run."""
    draw = random.Random(1)
    for name, size in {"1k.html": 1024, "10k.html": 10240, "100k.html": 102400, "mean.html": 2304, "10m.bin": 10 * MIB}.items():
        (lab.site / name).write_bytes(draw.randbytes(size))
    (lab.site / "many").mkdir()
    paths = [f"/many/{number:04}.html" for number in range(RANDOM_FILES)]
    for path in paths:
        (lab.site / path[1:]).write_bytes(draw.randbytes(draw.randrange(512, 4097)))
    (lab.scratch / "paths").write_text("\n".join(paths) + "\n")
    hostile.write_site(lab.site)
    words = "the of and to in a is that for it as was with be by on not he his but at are this have from".split()
    page = " ".join(f"<p class={draw.choice(words)}>{draw.choice(words)} {draw.randrange(9999)}" for _ in range(9000))[:102400].encode()
    (lab.site / "page.html").write_bytes(page)
    (lab.scratch / "page.html.gz").write_bytes(gzip.compress(page, 6))
    (lab.scratch / "missing.html").write_bytes(b"<!doctype html><title>404 Not Found</title>" + b"." * 110)


def measure_row(lab, peer, row, seconds):
    """Measures one round of a row, on a server that is started for it. Returns numbers, of which `figure` is the row's result, and flags."""
    if row.cold:
        return row.run(lab, peer, None, row, seconds)
    server = peers.start(lab, peer, row)
    try:
        if row.is_load():
            return load(lab, peer, server, row, seconds)
        return row.run(lab, peer, server, row, seconds)
    finally:
        server.stop()
        lab.log.unlink(missing_ok=True)


def count_calls(lab, peer, row):
    """System calls per answer, counted by strace in a separate run, after the server has read the files once."""
    server = peers.start(lab, peer, row)
    try:
        load(lab, peer, server, row, 0.2)
        outcome, by_name = measure.traced(lab, server, lambda: load(lab, peer, server, row, 0.3))
        answers = outcome["numbers"]["answers"]
        calls = {name: count / answers for name, count in by_name.items() if count / answers >= 0.005}
        return {"all": sum(by_name.values()) / answers, **dict(sorted(calls.items(), key=lambda call: -call[1]))}
    finally:
        server.stop()
        lab.log.unlink(missing_ok=True)


def load(lab, peer, server, row, seconds, beside=()):
    """Checks one whole answer of a running server, then runs the load of a row on it."""
    options, fields, length = dict(row.options), row.fields, None
    path, content = f"/{row.file}", lab.site / row.file
    if row.status == 404:
        path = "/missing"
        length = len(measure.ask(server, path, 404)[1])
    elif row.status == 304:
        fields = validators(peer, server, path)
    elif row.needs == "gzip":
        options["body"] = compressed(lab, peer, server, path, content)
    elif row.name == "random" and peer.name != "limit":
        options |= {"paths": lab.scratch / "paths", "root": lab.site}
    elif options.get("method") != "HEAD":
        if measure.ask(server, path)[1] != content.read_bytes():
            raise measure.Failed(f"GET {path}: the content is not that of the file")
        options["body"] = content
    if fields:
        options["field"] = fields
    outcome = measure.load(
        lab, server, path, seconds=seconds, connections=row.connections, length=length, status=row.status, warm=0.3, ramp=2, finish=1,
        beside=beside, **options,
    )
    return with_figure(row, outcome, content.stat().st_size if row.unit.startswith("bytes") else 1)


def with_figure(row, outcome, worth):
    cpu = outcome["numbers"]["cpu_us"]
    if not cpu or not outcome["numbers"]["rate"]:
        raise measure.Failed("too few answers for a figure")
    outcome["numbers"]["figure"] = worth / cpu * 1e6
    return outcome


def validators(peer, server, path):
    """The conditional fields of a client that has the file, from this server's answer."""
    if peer.name == "limit":
        return 'If-None-Match: "65920080-400"\r\nIf-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT'
    said, _ = measure.ask(server, path)
    names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    return "\r\n".join(f"{names[name]}: {said[name]}" for name in names if said[name])


def compressed(lab, peer, server, path, content):
    """Stores the gzip of a page as this server sends it, and returns the path. It stores the second answer, because a server may
    compress the first in another way."""
    for _ in range(2):
        said, body = measure.ask(server, path, fields={"Accept-Encoding": "gzip"})
    if said["Content-Encoding"] != "gzip" or gzip.decompress(body) != content.read_bytes():
        raise measure.Failed(f"GET {path}: it is not the gzip of the file")
    kept = lab.scratch / f"{peer.name}.gz"
    kept.write_bytes(body)
    return kept


def quiet(figure, **numbers):
    """The result of a row that runs no load."""
    return {"numbers": {"figure": figure, **numbers}, "flags": {"bound": "", "disturbed": False}}


# ---- rows that are not a plain load


def crowd(lab, server, row):
    return measure.Crowd(lab, server, "idle", IDLE, path=f"/{row.file}", length=(lab.site / row.file).stat().st_size, patience=2)


def all_stand(standing):
    if standing.counts["answered"] < IDLE:
        raise measure.Failed(f"only {standing.counts['answered']} of {IDLE} idle connections were served")


def beside_idle(lab, peer, server, row, seconds):
    with crowd(lab, server, row) as standing:
        all_stand(standing)
        outcome = load(lab, peer, server, row, seconds, beside=[standing.process])
        lost = standing.leave()["lost"]
    if lost:
        raise measure.Failed(f"{lost} idle connections were lost")
    return outcome


def memory_of_idle(lab, peer, server, row, seconds):
    """The growth of RSS by IDLE connections, divided by their number. The kernel's memory for a socket is not counted."""
    for _ in range(20):
        measure.ask(server, f"/{row.file}")
    before = server.memory()["rss_kib"]
    with crowd(lab, server, row) as standing:
        all_stand(standing)
        time.sleep(0.3)
        after = server.memory()["rss_kib"]
    return quiet((after - before) * 1024 / IDLE)


def memory_at_rest(lab, peer, server, row, seconds):
    measure.ask(server, f"/{row.file}")
    time.sleep(0.2)
    return quiet(server.memory()["rss_kib"])


def start(lab, peer, _server, row, seconds):
    times = []
    for _ in range(STARTS):
        port = peers.servers.free_port()
        argv = [lab.first_byte, port, f"/{row.file}", min(lab.cores[0]), *peer.arguments(lab, port, row)]
        code, out, err = processes.run(argv, lab.cores[1], 20)
        if code != 0:
            raise measure.Failed(f"{peer.name} gave no answer when started: {out or err}")
        times.append(json.loads(out)["ms"])
    return quiet(statistics.median(times), times_ms=times)


def make_targets(lab, count):
    """Makes the files that the uploads replace, so that no upload creates one."""
    for old in lab.store.glob("*"):
        if old.is_file():
            old.unlink()
    for number in range(count):
        (lab.store / f"up-{number}").touch()


def mixed(lab, peer, server, row, seconds):
    """Measures small requests that fall due at random moments: first alone, then beside transfers at full speed."""
    path, large = f"/{row.file}", lab.site / "10m.bin"
    method, status = peer.upload
    make_targets(lab, UPLOADS)

    def small(beside=()):
        length = (lab.site / row.file).stat().st_size
        return measure.load(lab, server, path, seconds=seconds, length=length, rate=SMALL_RATE, connections=8, warm=0.3, drain=5, beside=beside)

    def transfers(*argv):
        common = [lab.load, "--port", server.port, "--seconds", seconds + 1, "--finish", 3]
        return processes.start([*common, *argv], lab.cores[1], stdout=subprocess.PIPE, text=True)

    alone = small()["numbers"]["p99_us"]
    others = [
        transfers("--path", f"/{large.name}", "--connections", DOWNLOADS, "--length", large.stat().st_size),
        transfers("--path", "/files/up-%d", "--connections", UPLOADS, "--method", method, "--upload", large, "--status", status),
    ]
    try:
        time.sleep(0.3)
        outcome = small(beside=others)
        transferred = [json.loads(process.communicate(timeout=seconds + 20)[0]) for process in others]
    finally:
        for process in others:
            processes.end(process)
    for raw, count in zip(transferred, (DOWNLOADS, UPLOADS)):
        if raw["served"] < count or raw["wrong_status"] or raw["wrong_length"]:
            raise measure.Failed("a transfer got no answer, or a wrong one")
    numbers = outcome["numbers"]
    numbers |= {"figure": numbers["p99_us"] / alone, "alone_p99_us": alone, "transfers": [raw["answered_all"] for raw in transferred]}
    return outcome


def upload(lab, peer, server, row, seconds):
    source = lab.site / "10m.bin"
    method, status = peer.upload
    make_targets(lab, row.connections)
    outcome = measure.load(
        lab, server, "/files/up-%d", seconds=seconds, connections=row.connections, status=status, warm=0.3, finish=2, method=method,
        upload=source,
    )
    stored = [path.read_bytes() for path in lab.store.glob("limit-*" if peer.name == "limit" else "up-*")]
    whole = [content for content in stored if content]  # the others were not replaced
    if not whole or any(content != source.read_bytes() for content in whole):
        raise measure.Failed("a file is not what was sent")
    return with_figure(row, outcome, source.stat().st_size)
