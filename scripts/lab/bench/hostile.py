"""The row "beside hostile clients": a normal client's latency while others cause much work with few bytes.

hostile.c is those others. Their requests are for listings of large directories, all at the same time.
"""

import json
import subprocess
import time

from ..common import measure, processes

ENTRIES = 10_000
RATE = 200  # requests a second of the normal client, far below what any server can do
CONNECTIONS = 8  # kept, of the normal client
LEAST_SECONDS = 2  # p99 then counts 400 requests; with much fewer it would be their maximum
DRAIN = 10  # seconds: how long a request may take before it counts as unanswered

# name: (description, clients, requests in a batch, request). A batch of 0: the client sends one request and never reads the answer.
GROUPS = {
    "head": ("HEAD", 4, 430, "HEAD /entries/ HTTP/1.1"),
    "match": ("GET with If-None-Match: *", 4, 430, "GET /entries/ HTTP/1.1\r\nIf-None-Match: *"),
    "gzip": ("HEAD with gzip, identity;q=0", 4, 430, "HEAD /entries/ HTTP/1.1\r\nAccept-Encoding: gzip, identity;q=0"),
    "links": ("HEAD, absolute symbolic links", 4, 50, "HEAD /links/ HTTP/1.1"),
    "unread": ("GET, never read", 200, 0, "GET /entries/ HTTP/1.1"),
}


def write_site(site):
    """A directory of files and one of absolute symbolic links to a file of the site, both without an index."""
    entries, links = site / "entries", site / "links"
    entries.mkdir()
    links.mkdir()
    for number in range(ENTRIES):
        (entries / f"{number:05}.html").touch()
        (links / f"{number:05}.html").symlink_to(site / "1k.html")


def run(lab, peer, server, row, seconds):
    """Measures the normal client alone, then beside the hostile clients. Its requests fall due at random moments, whatever the
    server does, so that the latency of each is all the time that it waited."""
    for path in ("/entries/", "/links/"):
        shown = measure.ask(server, path)[1].count(b"<a href=")
        if shown < 0.99 * ENTRIES:
            raise measure.Failed(f"GET {path} is not a listing of the directory: it shows {shown} of {ENTRIES} entries")
    seconds = max(seconds, LEAST_SECONDS)
    length = (lab.site / row.file).stat().st_size

    def normal(beside=()):
        return measure.load(
            lab, server, f"/{row.file}", seconds=seconds, length=length, rate=RATE, connections=CONNECTIONS, warm=0.3, drain=DRAIN,
            beside=beside,
        )

    alone = normal()["numbers"]["p99_us"]
    # They share a core with the load generator. With nice, the load generator runs first, so that its latencies are the server's.
    argv = ["nice", "-n", 19, lab.hostile, "--port", server.port, "--seconds", seconds + 1]
    for name, (_, clients, batch, request) in GROUPS.items():
        argv += [name, clients, batch, request]
    others = processes.start(argv, lab.cores[1], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.3)
        outcome = normal(beside=[others])
        out, err = others.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        raise measure.Failed("the hostile clients did not end") from None
    finally:
        processes.end(others)
    if others.returncode:
        raise measure.Failed(err.strip() or f"the hostile clients ended with code {others.returncode}")
    numbers = outcome["numbers"]
    numbers |= {"figure": numbers["p99_us"] / 1000, "alone_p99_us": alone, "times": numbers["p99_us"] / alone, **got(json.loads(out))}
    return outcome


def got(raw):
    """The results of the hostile clients: for each group the answers a second; for the group that never reads, the number of
    clients for which the beginning of an answer has arrived."""
    numbers = {"hostile": 0.0, "hostile_refusals": 0.0, "hostile_ended": 0}
    for name, group in raw["groups"].items():
        numbers["hostile_ended"] += group["ended"]
        numbers["hostile_refusals"] += group["refusals"] / raw["seconds"]
        if name == "unread":
            numbers["hostile unread"] = group["answers"]
            continue
        numbers[f"hostile {name}"] = group["answers"] / raw["seconds"]
        numbers["hostile"] += numbers[f"hostile {name}"]
    return numbers
