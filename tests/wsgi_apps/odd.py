"""Applications that do what few do, or what none should, at the path of their name. `TIDY` are those that comply with
PEP 3333; they run inside the standard library's validator."""
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

# A worker that made its sockets after this would get timeouts on them.
socket.setdefaulttimeout(0.2)
PLAIN = [("Content-Type", "text/plain")]
ended = []


def text(start_response, value, status="200 OK", headers=()):
    start_response(status, PLAIN + list(headers))
    return [value.encode("utf-8")]


class Closing:
    """An iterable that notes how many chunks were taken, and that it was closed."""

    def __init__(self, name, chunks):
        self.name, self.chunks, self.taken = name, iter(chunks), 0

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self.chunks)
        self.taken += 1
        return chunk

    def close(self):
        ended.append(self.name)


def how_ended(environ, start_response):
    return text(start_response, ",".join(ended))


def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


def hello(environ, start_response):
    return text(start_response, "hello")


# ---- requests

def seen(environ, start_response):
    names = "REQUEST_METHOD PATH_INFO HTTP_HOST SERVER_NAME CONTENT_LENGTH".split()
    return text(start_response, "|".join(environ.get(name, "-") for name in names))


def reads(environ, start_response):
    source = environ["wsgi.input"]
    parts = [source.read(0), source.read(3), source.read(100), source.read(1), source.readline(), source.readlines()]
    return text(start_response, repr(parts + [list(source), source.read()]))


def reads_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield environ["wsgi.input"].read(100)


def clears(environ, start_response):
    environ.clear()
    return text(start_response, "cleared")


# ---- heads

def big_head(environ, start_response):
    return text(start_response, "x", headers=[("X-Big", "y" * int(environ["QUERY_STRING"]))])


def many_fields(environ, start_response):
    return text(start_response, "x", headers=[("X-%d" % number, "v" * 500) for number in range(400)])


def fields(environ, start_response):
    return text(start_response, "x", headers=[
        ("X-Latin", "caf\xe9"), ("X-Empty", ""), ("X-Tab", "a\tb"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


def status(environ, start_response):
    text(start_response, "hello", environ["QUERY_STRING"].replace("+", " "))
    return iter([b"he", b"llo"])


def late_start(environ, start_response):
    yield b""
    start_response("202 Late", list(PLAIN))
    yield b"late"


def replaced_behind_nothing(environ, start_response):
    start_response("200 OK", list(PLAIN) + [("X-Old", "1")])
    yield b""
    try:
        raise ValueError("replace me")
    except ValueError:
        start_response("503 Sorry", list(PLAIN), sys.exc_info())
    yield b"sorry"


def fails_behind_nothing(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b""
    raise ValueError("before any content")


# ---- content

def one_large(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"x" * 3000000]


def many_large(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"x" * 1000000] * 3


def shapes(environ, start_response):
    start_response("200 OK", list(PLAIN))

    class Sub(list):
        def close(self):
            ended.append("list")
    chunks = {"tuple": (b"a", b"", b"b"), "map": map(bytes, [b"a", b"b"]), "sub": Sub([b"a", b"b"]),
              "nothing": iter([b"", b""]), "dict": {b"a": 1, b"b": 2}}
    return chunks[environ["QUERY_STRING"]]


def without_end(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "10")])
    return Closing("without_end", iter(lambda: b"1234", None))


def without_end_written(environ, start_response):
    write = start_response("200 OK", PLAIN + [("Content-Length", "10")])
    try:
        while True:
            write(b"1234")
    finally:
        ended.append("written")


def all_then_raises(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "2")])
    yield b"ab"
    raise ValueError("behind all of it")


def writes_a_string(environ, start_response):
    write = start_response("200 OK", list(PLAIN))
    write(b"a")
    try:
        write("a string")
    except TypeError:
        return [b"b"]


def closes_badly(environ, start_response):
    class Bad(Closing):
        def close(self):
            Closing.close(self)
            sys.exit(2)
    start_response("200 OK", list(PLAIN))
    return Bad("badly", [b"a", b"b"])


def closes_slowly(environ, start_response):
    class Slow(Closing):
        def close(self):
            place_where_it_closes()
    start_response("200 OK", list(PLAIN))
    return Slow("slowly", [b"a", b"b"])


def place_where_it_closes():
    time.sleep(60)


def begins_and_hangs(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"begun"
    time.sleep(60)


def raises(environ, start_response):
    names = {"Stop": StopIteration, "Base": BaseException, "Generator": GeneratorExit, "Memory": MemoryError,
             "Reset": ConnectionResetError, "Blocking": BlockingIOError, "End": EOFError, "Exit": SystemExit}
    if environ["QUERY_STRING"] == "Recursion":
        return raises(environ, start_response)
    raise names[environ["QUERY_STRING"]]("on purpose")


def unprintable(environ, start_response):
    class Unprintable(Exception):
        def __str__(self):
            raise ValueError
    raise Unprintable


# ---- files

def file(environ, start_response):
    path, how = environ["HTTP_X_FILE"], environ["QUERY_STRING"]
    headers, status = list(PLAIN), "200 OK"
    if how == "part":
        opened = open(path, "rb")
        opened.seek(2)
        status, headers = "206 Partial Content", headers + [("Content-Length", "3"), ("Content-Range", "bytes 2-4/10")]
    elif how == "raw":
        opened = open(path, "rb", 0)
        opened.seek(3)
    elif how == "both":
        opened = open(path, "r+b")
        opened.seek(2)
    elif how == "temporary":
        opened = tempfile.TemporaryFile()
        opened.write(b"0123456789")
        opened.seek(4)
    elif how == "gone":
        opened = open(path, "rb")
        os.unlink(path)
    elif how == "pipe":
        end, other = os.pipe()
        os.write(other, b"0123456789")
        os.close(other)
        opened = os.fdopen(end, "rb")
    elif how == "device":
        opened = open("/dev/zero", "rb")
        headers.append(("Content-Length", "10"))
    elif how == "proc":
        opened = open("/proc/self/status", "rb")
    elif how == "none":
        opened, status, headers = open(path, "rb"), "204 No Content", []
    elif how == "text":
        opened = open(path, "r")
    elif how == "short":
        opened = open(path, "rb")
        headers.append(("Content-Length", "11"))
    elif how == "closed":
        opened = open(path, "rb")
        opened.close()
    else:
        opened = open(path, "rb")
    write = start_response(status, headers)
    if how == "behind":
        write(b"before:")
    wrapped = environ["wsgi.file_wrapper"](opened, 3)
    return (chunk.upper() for chunk in wrapped) if how == "chunks" else wrapped


def file_closed(environ, start_response):
    class Told(io.BytesIO):
        def close(self):
            ended.append("file")
            super().close()
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](Told(b"told"))


# ---- the process

def closes_streams(environ, start_response):
    how = environ["QUERY_STRING"]
    if how == "objects":
        sys.stdout.close()
        sys.stderr.close()
    elif how == "errors":
        environ["wsgi.errors"].close()
    elif how == "none":
        sys.stdout = sys.stderr = None
    else:
        for number in range(3):
            os.close(number)
    return text(start_response, "closed")


def closes_everything(environ, start_response):
    os.closerange(3, 1000)
    return text(start_response, "never")


def signalled(environ, start_response):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number == signal.SIGHUP:
            signal.signal(number, lambda *_: ended.append("hup"))
        os.kill(os.getpid(), number)
    time.sleep(0.1)
    return text(start_response, "alive " + ended[-1])


def child_output(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [subprocess.check_output([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"])]


def loop(environ, start_response):
    import asyncio

    async def later():
        await asyncio.sleep(0.01)
        return "later"
    return text(start_response, asyncio.run(later()))


def pool(environ, start_response):
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        return text(start_response, repr(workers.map(abs, [-1, -2])))


def thread_exits(environ, start_response):
    for target in (sys.exit, lambda: 1 / 0):
        threading.Thread(target=target).start()
    return text(start_response, "ok")


def imports(environ, start_response):
    return text(start_response, "%s %s %s" % (sys.path[0], os.getcwd(), "" in sys.path))


TIDY = """hello pid how_ended seen reads_late many_large big_head many_fields
child_output loop thread_exits imports""".split()


def app(environ, start_response):
    target = globals()[environ["PATH_INFO"].strip("/").split("/")[0] or "hello"]
    return (validator(target) if target.__name__ in TIDY else target)(environ, start_response)
