"""A second load generator beside our own, for the points where both can measure."""

import json
import subprocess
from pathlib import Path

from ..common import machine, measure, processes


def load(lab, server, path, *, connections, seconds, length):
    """The same measurement as measure.load, by wrk. wrk runs for whole seconds only. It counts statuses; lengths are checked by their sum."""
    script = Path(__file__).parent / "wrk.lua"
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script]
    clock = machine.CoreClock(lab.cores[0] | lab.cores[1])
    cpu_before = server.cpu_seconds()
    argv = [*argv, f"http://127.0.0.1:{server.port}{path}"]
    process = processes.start(argv, lab.cores[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=seconds + 20)
    except subprocess.TimeoutExpired:
        raise measure.Failed("wrk did not end") from None
    finally:
        processes.end(process)
    cpu = server.cpu_seconds() - cpu_before
    lines = [line for line in out.splitlines() if line.startswith('{"wrk"')]
    if process.returncode or not lines:
        raise measure.Failed(f"wrk: {err.strip() or out.strip() or 'no result'}")
    raw = json.loads(lines[0])["wrk"]
    if raw["status_errors"] or raw["read_errors"] or raw["write_errors"] or raw["connect_errors"]:
        raise measure.Failed(f"wrk met errors: {raw}")
    # An answer is its body and a head of 60 to 700 bytes. Answers that were incomplete at the end are in the bytes only.
    if raw["requests"] and not 60 <= raw["bytes"] / raw["requests"] - length <= 700 + connections * (length + 700) / raw["requests"]:
        raise measure.Failed(f"wrk received {raw['bytes']} bytes for {raw['requests']} answers of {length}")
    busy = cpu / raw["seconds"]
    others = max(0.0, clock.busy_seconds() - cpu - raw["cpu"]) / (raw["seconds"] * len(lab.cores[0] | lab.cores[1]))
    return {
        "numbers": {
            "rate": raw["requests"] / raw["seconds"],
            "p50_us": raw["p50_us"],
            "p99_us": raw["p99_us"],
            "mean_us": raw["mean_us"],
            "connections": connections,
            "server_busy": busy,
            "others_busy": others,
            "cpu_us": cpu / raw["requests"] * 1e6 if raw["requests"] else None,
        },
        "flags": {"bound": "server" if busy >= measure.NOT_FULL else "neither", "at_least": False, "starved": False, "disturbed": others > measure.DISTURBING},
    }
