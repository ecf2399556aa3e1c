"""The least an application can do, and two that keep their worker."""

import time

HELLO = b"Hello, world!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]
KEPT = 0.2  # seconds; lab/wsgi_bench/rows.py knows it


def hello(environ, start_response):
    start_response("200 OK", HEADERS)
    return [HELLO]


def keep(environ, start_response):
    """Below /wait as one that waits for its database, below /compute as one that computes."""
    if environ["PATH_INFO"] == "/wait":
        time.sleep(KEPT)
    else:
        end = time.perf_counter() + KEPT
        while time.perf_counter() < end:
            pass
    return hello(environ, start_response)
