"""The smallest application, and an application that holds its worker for a while."""

import time

HELLO = b"Hello, world!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]
KEPT = 0.2  # seconds; the same as KEPT in lab/wsgi_bench/rows.py


def hello(environ, start_response):
    start_response("200 OK", HEADERS)
    return [HELLO]


def keep(environ, start_response):
    """Waits at /wait, as for a database; computes at every other path."""
    if environ["PATH_INFO"] == "/wait":
        time.sleep(KEPT)
    else:
        end = time.perf_counter() + KEPT
        while time.perf_counter() < end:
            pass
    return hello(environ, start_response)
