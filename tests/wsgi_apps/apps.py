"""Applications that do one thing each, at the path of their name. Those that comply with PEP 3333 run inside the standard
library's validator."""
import io
import os
import sys
import threading
import time
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]
closed = []


class Closing:
    """An iterable that notes that it was closed."""

    def __init__(self, name, chunks):
        self.name, self.chunks = name, iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def close(self):
        closed.append(self.name)


def text(start_response, value, status="200 OK", headers=PLAIN):
    start_response(status, list(headers))
    return [value.encode("utf-8")]


# ---- applications that comply with PEP 3333

def hello(environ, start_response):
    return text(start_response, "hello\n")


def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


def environ(environ, start_response):
    lines = ["%s=%r" % item for item in sorted(environ.items())]
    return text(start_response, "\n".join(["type=%s" % type(environ).__name__] + lines))


def echo(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


def lines(environ, start_response):
    source = environ["wsgi.input"]
    parts = [source.readline(), source.readline(2), source.readlines(1), list(source), source.read(1)]
    return text(start_response, repr(parts))


def empty(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def reason(environ, start_response):
    return text(start_response, "x", "299 Rather Odd")


def ours(environ, start_response):
    return text(start_response, "x", headers=PLAIN + [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")])


def await_file(name):
    while not os.path.exists(name):
        time.sleep(0.005)


def stream(environ, start_response):
    """Sends a second piece once the file exists that the query names."""
    start_response("200 OK", list(PLAIN))
    yield b"first"
    await_file(environ["QUERY_STRING"])
    yield b"second"


def held(environ, start_response):
    """Makes the file NAME.begun, and answers once the file NAME exists. The query is NAME."""
    name = environ["QUERY_STRING"]
    open(name + ".begun", "w").close()
    await_file(name)
    return text(start_response, "held")


def write(environ, start_response):
    send = start_response("200 OK", list(PLAIN))
    send(b"a")
    send(b"b")
    return Closing("write", [b"c", b"d"])


def once(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return Closing("once", [b"x", b"y"])


def endless(environ, start_response):
    def chunks():
        while True:
            time.sleep(0.001)
            yield b"x" * 10000
    start_response("200 OK", list(PLAIN))
    return Closing("endless", chunks())


def big(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"x" * 1048576] * 3


def large(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return Closing("large", (bytes([count % 251]) * 1048576 for count in range(50)))


def how_closed(environ, start_response):
    return text(start_response, ",".join(closed))


def replaced(environ, start_response):
    start_response("200 OK", list(PLAIN))
    try:
        raise ValueError("replace me")
    except ValueError:
        start_response("418 Sorry", list(PLAIN), sys.exc_info())
    return [b"sorry"]


def says(environ, start_response):
    print("printed words")
    environ["wsgi.errors"].write("words of an error\n")
    sys.stderr.write("unended")
    sys.stderr.flush()
    return text(start_response, "said")


def slow(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 1))
    return text(start_response, "slow")


def file(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    opened = open(environ["HTTP_X_FILE"], "rb")
    opened.read(int(environ["QUERY_STRING"] or 0))
    return environ["wsgi.file_wrapper"](opened, 7)


def memory_file(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](io.BytesIO(b"from memory"), 3)


class Shouting(io.FileIO):
    def read(self, size=-1):
        return super().read(size).upper()


def special_file(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](Shouting(environ["HTTP_X_FILE"]))


def threads(environ, start_response):
    return text(start_response, "%s %s" % (environ["wsgi.multithread"], threading.active_count()))


def cancelled(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b""
    yield b"x"


def fork(environ, start_response):
    if os.fork() == 0:
        return text(start_response, "the child")
    return text(start_response, "the parent")


# ---- applications that do not

def raises(environ, start_response):
    raise ValueError("raised on purpose")


def os_error(environ, start_response):
    raise BrokenPipeError("not the server's socket")


def exits(environ, start_response):
    sys.exit(7)


def interrupts(environ, start_response):
    raise KeyboardInterrupt


def late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    raise ValueError("after start_response")
    yield b"never"


def none(environ, start_response):
    start_response("200 OK", list(PLAIN))


def a_string(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return "text"


def strings(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return ["text"]


def yields_strings(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield "text"


def no_start(environ, start_response):
    return [b"x"]


def start_twice(environ, start_response):
    start_response("200 OK", list(PLAIN))
    start_response("200 OK", list(PLAIN))
    return [b"x"]


def bad_head(environ, start_response):
    status, headers = [
        ("200 OK\r\nX-Evil: 1", []), ("20 OK", []), ("99 Low", []), ("abc", []), (200, []), (b"200 OK", []),
        ("200 OK", [("X-A", "b\r\nX-Evil: 1")]), ("200 OK", [("X-A", "b\0c\0d")]), ("200 OK", [("X A", "b")]),
        ("200 OK", [("", "b")]), ("200 OK", [("X-A", 5)]), ("200 OK", [(b"X-A", b"b")]), ("200 OK", [("X-A", "\u20ac")]),
        ("200 OK", [("X-A",)]), ("200 OK", [("X-A\n", "b")]), ("101 Switching", []), ("200 OK", [("Content-Length", "x")]),
    ][int(environ["QUERY_STRING"])]
    start_response(status, headers)
    return [b"x"]


def hop_by_hop(environ, start_response):
    headers = [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("X-Kept", "yes")]
    start_response("200 OK", PLAIN + headers)
    return [b"5\r\nhello\r\n0\r\n\r\n"]


def breaks_off(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"some"
    raise ValueError("in the middle")


def too_short(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "100")])
    yield b"short"


def too_short_at_once(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "100")])
    return [b"short"]


def too_long(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "4")])
    yield b"lo"
    yield b"ng and more"
    yield b" and more"


def replaced_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"begun"
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("500 Error", list(PLAIN), sys.exc_info())
    yield b"unseen"


def body_with_304(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return [b"body"]


def crash(environ, start_response):
    os._exit(11)


def crash_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"some"
    os._exit(11)


def hang(environ, start_response):
    place_where_it_hangs()


def place_where_it_hangs():
    while True:
        time.sleep(60)


def spin(environ, start_response):
    while True:
        pass


def flood(environ, start_response):
    for _ in range(2000):
        sys.stderr.write("flood " * 20 + "\n")
    sys.stderr.write("x" * 300000)
    return text(start_response, "flooded")


def orphan(environ, start_response):
    if os.fork() == 0:
        os.setsid()
        time.sleep(20)
        os._exit(0)
    os._exit(12)


FREE = """hello pid raises os_error exits interrupts late none a_string strings yields_strings no_start start_twice bad_head hop_by_hop
breaks_off too_short too_short_at_once too_long replaced_late body_with_304 crash crash_late hang spin flood orphan file
special_file memory_file write endless large no_content""".split()


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/") or "hello"
    target = globals()[name]
    return (target if name in FREE else validator(target))(environ, start_response)


def make():
    return app


class site:
    app = staticmethod(app)
