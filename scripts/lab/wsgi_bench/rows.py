"""The rows of the tables: what each measures, how, and its goal."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Callable

from ..common import measure, processes
from . import hosts

CONNECTIONS = 16  # unless a row says otherwise
STATIC_RATE = 1000  # requests a second while the workers are busy: far below what the server can do
KEPT = 0.2  # seconds for which bench_app:keep holds its worker
WORKERS = 2
MB = 1e6


@dataclass
class Goal:
    """A goal: the figure of `ours` is at most `share` times that of `other`. Without `other` it is at most `share`."""

    ours: str
    share: float
    other: str = ""


@dataclass
class Row:
    name: str  # for --rows
    title: str
    unit: str
    columns: list  # of the table: hosts, or states of dustdevil
    run: Callable  # (lab, column, seconds) -> numbers, of which `figure` is the row's result, and flags
    goals: list = field(default_factory=list)


def all_rows():
    every = list(hosts.ABOUT)
    cpu = "CPU us a request"
    hello = [Goal("dustdevil", 0.42, "gunicorn"), Goal("dustdevil", 0.9, "nginx+uwsgi")]
    flask = [Goal("dustdevil", 0.65, "gunicorn")]
    busy = list(BUSY)
    return [
        # With one client, each request wakes every process on its way. With many, a process takes all waiting requests at once.
        Row("hello-1", "hello, one kept connection", cpu, every, application("hello", connections=1), hello),
        Row("hello", f"hello, {CONNECTIONS} kept connections", cpu, every, application("hello"), hello),
        Row("hello-close", "hello, a connection for each request", cpu, every, application("hello", close=True), hello),
        Row("flask-1", "Flask, one kept connection", cpu, every, application("flask", connections=1), flask),
        Row("flask", f"Flask, {CONNECTIONS} kept connections", cpu, every, application("flask"), flask),
        Row("flask-close", "Flask, a connection for each request", cpu, every, application("flask", close=True), flask),
        Row("memory", "resident, one worker, hello", "MB (RSS)", every, memory, [Goal("dustdevil", 25)]),
        Row("static", "1 KiB file, kept connections, 64", cpu, list(STATIC), static, [Goal("with --wsgi", 1.03, "files only")]),
        Row(
            "busy", f"1 KiB file at {STATIC_RATE} requests a second", "p99 us", busy, beside_busy,
            [Goal(name, 2, busy[0]) for name in busy[1:]],
        ),
    ]


def application(app, connections=CONNECTIONS, **options):
    """A kept connection is one that the client keeps. gunicorn's sync worker closes it all the same; the client then connects again."""

    def run(lab, host, seconds):
        server = hosts.start(lab, host, app)
        try:
            load = dict(connections=connections, length=measure.reference(server, "/"), ramp=2, finish=1, **options)
            measure.load(lab, server, "/", seconds=0.3, warm=0, **load)  # warm-up: work that is done only once is not counted
            outcome = measure.load(lab, server, "/", seconds=seconds, warm=0.1, **load)
        finally:
            server.stop()
        return with_figure(outcome, outcome["numbers"]["cpu_us"])

    return run


def with_figure(outcome, figure):
    if not figure:
        raise measure.Failed("too few answers for a figure")
    outcome["numbers"]["figure"] = figure
    return outcome


def memory(lab, host, seconds):
    """The memory after 3,000 answers."""
    server = hosts.start(lab, host, "hello")
    try:
        load = dict(connections=CONNECTIONS, length=measure.reference(server, "/"), ramp=2, finish=1)
        measure.load(lab, server, "/", seconds=1, answers=3000, **load)
        time.sleep(0.3)
        pss, rss = server.resident()
        count = len(server.pids)
    finally:
        server.stop()
    return {"numbers": {"figure": rss / MB, "pss_mb": pss / MB, "processes": count}, "flags": {"bound": "", "disturbed": False}}


# ---- static files beside applications

STATIC = {"files only": [], "with --wsgi": ["--wsgi", "/app=bench_app:hello", "--wsgi-workers", 1]}


def static(lab, column, seconds):
    server = hosts.dustdevil(lab, column, *STATIC[column], lab.site)
    try:
        if STATIC[column]:
            hosts.answering(server, "/app/")
        outcome = file_load(lab, server, seconds, connections=64, warm=0.3, ramp=2, finish=1)
    finally:
        server.stop()
    return with_figure(outcome, outcome["numbers"]["cpu_us"])


def file_load(lab, server, seconds, **options):
    path = lab.site / "1k.html"
    length = measure.reference(server, "/1k.html", file=path)
    return measure.load(lab, server, "/1k.html", seconds=seconds, length=length, body=path, **options)


# For each column, the path of the requests that hold the workers.
BUSY = {"workers idle": "", "workers waiting": "/app/wait", "workers computing": "/app/compute"}


def beside_busy(lab, column, seconds):
    """The latency of files while the workers are held. An open loop: latency counts from the moment a request was due."""
    server = hosts.dustdevil(lab, column, "--wsgi", "/app=bench_app:keep", "--wsgi-workers", WORKERS, lab.site)
    try:
        hosts.answering(server, "/app/wait")
        # Without --spin: on a core that other programs use too, spinning would delay the load itself.
        options = dict(connections=64, rate=STATIC_RATE, warm=0.3)
        if not BUSY[column]:
            outcome = file_load(lab, server, seconds, **options)
        else:
            with Keeping(lab, server, BUSY[column], seconds + 2) as keeping:
                time.sleep(0.3)
                outcome = file_load(lab, server, seconds, beside=[keeping.process], **options)
                keeping.verify()
    finally:
        server.stop()
    return with_figure(outcome, outcome["numbers"]["p99_us"])


class Keeping:
    """A load that keeps all workers busy, with the same number of requests waiting."""

    def __init__(self, lab, server, path, seconds):
        self.server = server
        argv = [lab.load, "--port", server.port, "--path", path, "--connections", 2 * WORKERS, "--seconds", seconds, "--warm", 0]
        self.process = processes.start(argv, lab.cores[1], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def verify(self):
        out, err = self.process.communicate(timeout=20)
        if self.process.returncode:
            raise measure.Failed(err.strip() or "the load on the workers ended")
        raw = json.loads(out)
        measure.verify(raw, 200, None)
        busy = raw["answered_all"] * KEPT / raw["wall"] / WORKERS
        if busy < 0.8:
            raise measure.Failed(f"the workers were busy for {busy:.0%} of the time only")

    def __exit__(self, *_):
        processes.end(self.process)


def write_site(lab):
    (lab.site / "1k.html").write_bytes(os.urandom(1024))
