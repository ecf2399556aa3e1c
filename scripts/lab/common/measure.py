"""One measurement: a load on a server, with every answer checked, and the use of the processor meanwhile.

It returns numbers only if every answer was right; otherwise it raises `Failed` with the reason.
"""

import gzip
import http.client
import json
import os
import subprocess
from pathlib import Path

from . import machine, processes

FULL = 0.95  # from this share on, the load's core counts as full: the start and the resolution of clock ticks take the rest
NOT_FULL = 0.90  # below this share the server's core is not full
DISTURBING = 0.15  # share of the two cores that other programs took: more marks the result as disturbed
LOST = 0.01  # share of connections that were cut off or refused: more fails the measurement


class Failed(Exception):
    """The measurement is not valid. The text says why."""


def ask(server, path, status=200, fields=None):
    """Sends one request on a new connection. Returns (fields, body). Fails if the answer has another status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", path, headers={"Connection": "close", "Accept-Encoding": "identity", **(fields or {})})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"GET {path}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != status:
        raise Failed(f"GET {path} is answered {answer.status}, not {status}")
    return answer.headers, body


def reference(server, path, *, file=None, compressed=False, status=200):
    """Sends one request and checks the whole answer. Returns the length of the body as transferred, which later answers must have."""
    key = (path, compressed)
    if key in server.references:
        return server.references[key]
    said, body = ask(server, path, status, {"Accept-Encoding": "gzip"} if compressed else None)
    if compressed != (said["Content-Encoding"] == "gzip"):
        raise Failed(f"GET {path}: Content-Encoding is {said['Content-Encoding']}")
    content = gzip.decompress(body) if compressed else body
    if file is not None and content != Path(file).read_bytes():
        raise Failed(f"GET {path}: the content is not that of the file")
    server.references[key] = len(body)
    return len(body)


def load(lab, server, path, *, seconds, connections=1, length=None, status=200, limit=None, beside=(), spin=False, **options):
    """Runs the load generator. `options` are its flags. The CPU time of the processes `beside` does
    not count as a disturbance."""
    argv = [lab.load, "--port", server.port, "--path", path, "--connections", connections, "--seconds", seconds]
    argv += ["--status", status, "--length", -1 if length is None else length]
    if spin and lab.cores[0] != lab.cores[1]:  # on a shared core, spinning would take time from the server
        argv += ["--spin"]
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value not in (None, False):
            argv += [f"--{name}", value]
    clock = machine.CoreClock(lab.cores[0] | lab.cores[1])
    own_before = _cpu(server, beside)
    cpu_before = server.cpu_seconds()
    code, out, err = processes.run(argv, lab.cores[1], limit or seconds + 20)
    cpu = server.cpu_seconds() - cpu_before
    own = _cpu(server, beside) - own_before
    if not server.is_alive():
        raise Failed(server.death())
    if code != 0:
        raise Failed(err.strip() or f"the load generator ended with code {code}")
    raw = json.loads(out)
    verify(raw, status, length)
    return summary(lab, raw, cpu, own, clock, options.get("rate"), spin)


def verify(raw, status, length):
    if raw["wrong_status"]:
        raise Failed(f"{raw['wrong_status']} answers had another status than {status}, the last {raw['first_wrong_status']}")
    if raw["wrong_length"]:
        raise Failed(f"{raw['wrong_length']} answers were not {length} bytes long")
    if raw["wrong_body"]:
        raise Failed(f"{raw['wrong_body']} of {raw['compared']} answers that were compared had other bytes")
    if raw["malformed"]:
        raise Failed(f"{raw['malformed']} answers were not HTTP")
    lost = raw["cut_off"] + raw["refused"]
    if lost > LOST * (raw["answered_all"] + lost):
        raise Failed(f"{raw['cut_off']} connections were cut off and {raw['refused']} refused")


def summary(lab, raw, cpu, own, clock, rate, spin):
    wall = raw["wall"]
    server_busy, load_busy = cpu / wall, raw["cpu"] / wall
    others = max(0.0, clock.busy_seconds() - own - raw["cpu"]) / (wall * len(lab.cores[0] | lab.cores[1]))
    asked = raw["answered"] + raw["unanswered"]
    unanswered = raw["unanswered"] / asked if asked else 0.0
    nothing = raw["answered"] == 0
    if lab.cores[0] == lab.cores[1]:
        bound = "one core for both"
    elif server_busy >= NOT_FULL:
        bound = "server"
    elif spin and raw["late_us"] > raw["mean_us"] / 2 or not spin and load_busy >= FULL:
        bound = "generator"
    else:
        bound = "neither"
    numbers = {
        "rate": raw["answered"] / raw["window"],
        "bytes_per_s": raw["bytes"] / raw["window"],
        # Without any answer there is no latency, except in the open loop: there, requests count with the time they have waited.
        "p50_us": None if nothing and not rate else raw["p50_us"],
        "p99_us": None if nothing and not rate else raw["p99_us"],
        "mean_us": None if nothing and not rate else raw["mean_us"],
        "answers": raw["answered_all"],
        "connections": raw["connections"],
        "served": raw["served"],
        "unanswered": unanswered,
        "server_busy": server_busy,
        "load_busy": load_busy,
        "cpu_us": cpu / raw["answered_all"] * 1e6 if raw["answered_all"] else None,
        "others_busy": others,
    }
    # If more than 1% of the requests had no answer, p99 is a lower bound only.
    flags = {"bound": bound, "at_least": unanswered > 0.01, "disturbed": others > DISTURBING}
    flags["starved"] = unanswered > 0.01 if rate else raw["served"] < raw["connections"]
    return {"numbers": numbers, "flags": flags}


def _cpu(server, beside):
    return server.cpu_seconds() + sum(_own_cpu(process.pid) for process in beside)


def _own_cpu(pid):
    fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100 if fields else 0.0


def traced(lab, server, run):
    """Runs a load while strace counts the server's system calls. Returns the load's result and the counts by name. Do not use the
    times in the result: strace makes a server ten times slower."""
    counts = lab.scratch / "strace.txt"
    counts.unlink(missing_ok=True)
    tracer = processes.start(["strace", "-f", "-qq", "-c", "-o", counts, "-p", server.process.pid], lab.cores[1])
    try:
        if not machine.until(lambda: _is_traced(server.process.pid), 3):
            raise Failed("strace cannot attach; it needs root or kernel.yama.ptrace_scope=0")
        outcome = run()
    finally:
        processes.end(tracer)
    by_name = _read_strace(machine.read(counts))
    if not by_name or not outcome["numbers"]["answers"]:
        raise Failed("strace counted nothing")
    return outcome, by_name


def _is_traced(pid):
    tasks = os.listdir(f"/proc/{pid}/task") if os.path.isdir(f"/proc/{pid}/task") else []
    states = [machine.read(f"/proc/{pid}/task/{task}/status") for task in tasks]
    return bool(states) and all("TracerPid:\t0" not in state for state in states)


def _read_strace(text):
    """The table of `strace -c`: % time, seconds, usecs/call, calls, errors (or nothing), name."""
    counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) in (5, 6) and words[0][0].isdigit() and words[-1] != "total":
            counts[words[-1]] = counts.get(words[-1], 0) + int(words[3])
    return counts


class Crowd:
    """Runs crowd.py, as a context manager that always ends it."""

    def __init__(self, lab, server, kind, count, *, path, length=-1, patience=0.5):
        self.lab, self.server = lab, server
        argv = [lab.python, Path(__file__).parent / "crowd.py", "--port", server.port, "--kind", kind, "--count", count]
        argv += ["--path", path, "--length", length, "--patience", patience]
        self.argv = argv
        self.process = self.counts = None

    def __enter__(self):
        self.process = processes.start(
            self.argv, self.lab.cores[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        if not line:
            words = self.process.stderr.read().strip().splitlines()
            self.__exit__()
            raise Failed(f"the idle or slow clients: {words[-1] if words else 'ended'}")
        self.counts = json.loads(line)
        if self.counts["wrong"]:
            self.__exit__()
            raise Failed(f"{self.counts['wrong']} answers to idle clients were wrong")
        return self

    def leave(self):
        """Ends the crowd. Returns its last counts."""
        self.process.stdin.close()
        line = self.process.stdout.readline()
        return json.loads(line) if line else self.counts

    def __exit__(self, *_):
        processes.end(self.process)
