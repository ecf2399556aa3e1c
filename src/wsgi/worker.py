"""The worker: imports one WSGI application (PEP 3333). Each of its threads calls it for one request at a time.

The worker knows no HTTP: the server parses, buffers, frames and sends. Each thread has a stream to the server, for both
directions. The first thread's stream was standard input. A frame on a stream is a header of 16 bytes (kind and serial,
length of A, length of B), then A, then B. Each thread also has an inbox, a stream of slots of SLOT bytes. A slot holds
a whole REQUEST, or only zeros: then the next frame comes over the thread's stream.
    to the worker    CONFIG   A: pairs. With it come the lifeline, all inboxes, and the streams of the other threads.
                     REQUEST  A: environ as NAME\\0VALUE\\0..., B: the body.
                     SPOOLED  A: environ. The body is the file that comes with the frame.
                     CANCEL   The client has left: stop before the next chunk.
    to the server    READY    The application is imported.
                     FAILED   The import failed. A says why, and the process ends.
                     FULL     A: head (STATUS\\0NAME\\0VALUE\\0...), B: the whole body. The thread is free.
                     DATA     A: head, in the first one; B: a piece of the body.
                     FILE     A: head. The body is the file that comes with the frame. Its offset is in the place of
                              the length of B.
                     LAST     The body is complete, but close() has not been called yet.
                     END      The body is complete, and close() has been called. The thread is free.
                     ABORT    The application failed in the middle of the body. The thread is free.
                     ERROR    The application failed before the body. The thread is free.
When the server ends, the process ends. No exception of the application ends it.
"""
import fcntl
import io
import operator
import os
import re
import select
import signal
import socket
import struct
import sys
from itertools import chain
from wsgiref.util import FileWrapper

CONFIG, REQUEST, SPOOLED, CANCEL = range(1, 5)
READY, FAILED, FULL, DATA, FILE, END, ABORT, ERROR, LAST = range(16, 25)
HEADER = struct.Struct("<IIQ")
ROOM = 65536  # bytes of a read; a frame up to this size is sent with one call
SLOT = 4096  # bytes of a slot of an inbox
WHOLE = 262144  # a list of pieces up to this size is joined, so that its length is known
MOST = 1048576  # the largest head
CONTROL, CLOEXEC = socket.CMSG_SPACE(256 * 4), socket.MSG_CMSG_CLOEXEC
PID = os.getpid()
# A whole head in one match: no control character, names that are tokens. NUL ends each part.
VALID_HEAD = re.compile(rb"[1-9]\d\d( [^\0-\x08\n-\x1f\x7f]*)?\0([\w!#$%&'*+.^`|~-]+\0[^\0-\x08\n-\x1f\x7f]*\0)*").fullmatch


class Link:
    """One thread's connection to the server: its stream and its inbox."""
    def __init__(self, sock, inbox=None):
        self.sock, self.inbox, self.files, self.poll, self.serial = sock, inbox, [], select.poll(), 0
        self.slot = memoryview(bytearray(SLOT))
        self.poll.register(sock, select.POLLIN)

    def read(self, count):
        """Reads `count` bytes of the stream. Files that come with them go to `self.files`."""
        data = bytearray()
        while len(data) < count:
            part, control, _, _ = self.sock.recvmsg(min(count - len(data), ROOM), CONTROL, CLOEXEC)
            for _, _, files in control:
                self.files += struct.unpack("%di" % (len(files) // 4), files)
            if not part:
                os._exit(0)  # the server has ended
            data += part
        return data

    def read_frame(self):
        """The next frame of the stream."""
        word, a, b = HEADER.unpack(self.read(HEADER.size))
        return word, self.read(a), self.read(b)

    def frame(self):
        """The next request, from the inbox or the stream; None when the server has closed the inbox."""
        while self.inbox.recv_into(self.slot):
            word, a, b = HEADER.unpack_from(self.slot)
            if word:
                a, b = self.slot[16:16 + a], self.slot[16 + a:16 + a + b]
            else:
                word, a, b = self.read_frame()
            if word & 255 != CANCEL:  # a CANCEL here is for the previous request, which is finished already
                self.serial = word & ~255
                return word & 255, a, b

    def send(self, kind, a=b"", b=b"", offset=0, file=None):
        if os.getpid() != PID:
            os._exit(0)  # this is a child that the application forked: only the parent may answer
        frame = HEADER.pack(self.serial | kind, len(a), len(b) or offset) + a
        try:
            if file is not None:
                sent = self.sock.sendmsg((frame,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file)),))
                self.sock.sendall(frame[sent:])
            else:
                for part in (frame + b,) if len(b) <= ROOM else (frame, b):
                    self.sock.sendall(part)
        except OSError:
            os._exit(0)


def real(file):
    """Descriptor and position of a regular file, or None. None for a subclass, since its read() may differ. None for a
    file of size 0, since files in /proc have size 0 and content."""
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or not os.path.isfile(raw.fileno()) or not os.path.getsize(raw.fileno()):
        return None
    file.flush()
    return raw.fileno(), file.tell()


class Exchange:
    """One request: the state that start_response(), write() and the iteration share."""
    def __init__(self, link):
        self.link, self.head, self.begun, self.over = link, None, False, False

    def start_response(self, status, headers, exc_info=None):
        if exc_info:
            if self.begun:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self.head is not None:
            raise AssertionError("start_response() was called again, and without exc_info")
        fields = list(headers)
        try:
            head = "\0".join(chain((status,), chain.from_iterable(fields), ("",))).encode("latin-1")
        except (TypeError, UnicodeEncodeError):
            head = b""
        if not VALID_HEAD(head) or head.count(0) != 2 * len(fields) + 1 or len(head) > MOST:
            raise ValueError("the status or a header is not valid: %r %.9999r" % (status, fields))
        self.head = head
        return self.write

    def take_head(self):
        if self.head is None:
            raise AssertionError("the application did not call start_response()")
        self.begun = True
        return self.head

    def write(self, data):
        if not isinstance(data, bytes):
            raise TypeError("the content of a response is bytes, not %s" % type(data).__name__)
        if self.begun and self.link.poll.poll(0):
            self.over = True  # CANCEL has arrived, or the server has ended
        if self.over:
            raise BrokenPipeError("the client has left, or the response is complete")
        if data:
            self.link.send(DATA, b"" if self.begun else self.take_head(), data)

    def send(self, result):
        """Sends what the application returned. True if it was sent as FULL: then the thread is free for the server."""
        kind = type(result)
        if kind in (list, tuple) and not self.begun and (len(result) == 1 or sum(map(len, result)) <= WHOLE):
            body = result[0] if len(result) == 1 else b"".join(result)
            if isinstance(body, bytes):
                self.link.send(FULL, self.take_head(), body)
                return True
        file = real(result.filelike) if kind is FileWrapper and not self.begun else None
        if file:
            self.link.send(FILE, self.take_head(), b"", file[1], file[0])
        else:
            for chunk in result:
                self.write(chunk)
        return False

    def run(self, app, environ):
        result, free, outcome = None, False, END
        try:
            result = app(environ, self.start_response)
            free = self.send(result)
            if not self.begun:
                self.link.send(DATA, self.take_head())
            if not free and hasattr(result, "close") and b"\0content-length\0" not in self.head.lower():
                self.link.send(LAST)  # without a Content-Length, the client would wait until close() has returned
        except BaseException:  # SystemExit and KeyboardInterrupt too: they come from the application
            outcome = ABORT if self.begun else ERROR
            if not self.over:
                report()
        self.over = True  # a later write(), from another thread, would become part of the next response
        try:
            if hasattr(result, "close"):
                result.close()
        except BaseException:
            report()
        if not free:
            self.link.send(outcome)


def ignore_closed(call, **arguments):
    try:
        call(**arguments)
    except (OSError, ValueError):
        pass  # the application has closed the stream


def report():
    ignore_closed(__import__("traceback").print_exc, file=ERRORS)


def load(name):
    """The object that `module:name.name` names, or what `module:name()` returns."""
    module, _, path = name.partition(":")
    __import__(module)
    app = operator.attrgetter(path.replace("()", ""))(sys.modules[module])
    app = app() if path.endswith("()") else app
    if not callable(app):
        raise TypeError("%s is not callable" % name)
    return app


def serve(link, app, base):
    try:
        link.send(READY)
        for kind, pairs, body in iter(link.frame, None):
            pairs = iter(str(pairs, "latin-1").split("\0"))
            environ = dict(base)
            environ.update(zip(pairs, pairs))
            if kind == REQUEST:
                environ["wsgi.input"] = io.BytesIO(body)
            else:
                environ["wsgi.input"] = open(link.files.pop(0), "rb")
            Exchange(link).run(app, environ)
            environ = body = None  # a large body is not kept until the next request
            for stream in STREAMS:
                ignore_closed(stream.flush)
    except BaseException:  # an error in this file: without the exit, requests would wait for a thread that has ended
        report()
        os._exit(1)


def ignore_in_worker(number, _):
    if os.getpid() != PID:  # a forked child ends; the worker ignores the signal, since the server ends it after its requests
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def main(link):
    config = link.read_frame()[1]
    (lifeline, *files), link.files = link.files, []
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, PID)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)  # when the server ends, SIGIO ends this process, even in a computation
    if select.select([lifeline], [], [], 0)[0]:
        os._exit(0)  # the server has ended already
    pairs = iter(os.fsdecode(bytes(config)).split("\0"))
    config = dict(zip(pairs, pairs))
    sockets = [socket.socket(fileno=file) for file in files]  # before the application sets a default timeout
    inboxes, streams = sockets[:len(sockets) // 2 + 1], sockets[len(sockets) // 2 + 1:]
    link.inbox, links = inboxes[0], [Link(*each) for each in zip(streams, inboxes[1:])]
    sys.argv[:], sys.path[:] = [config["app"]], [config["folder"]] + [each for each in sys.path if each]
    try:
        app = load(config["app"])
    except BaseException:
        link.send(FAILED, __import__("traceback").format_exc().encode("utf-8", "replace"))
        os._exit(3)
    base = {"wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": ERRORS, "wsgi.run_once": False,
            "wsgi.multithread": bool(links), "wsgi.multiprocess": config["multiprocess"] == "1",
            "wsgi.file_wrapper": FileWrapper, "wsgi.input_terminated": True}
    watch = [(exec, (config["watch"], {"folder": config["folder"], "server": os.getppid()}))] if config["watch"] else []
    for target, arguments in [(serve, (other, app, base)) for other in links] + watch:
        __import__("threading").Thread(target=target, args=arguments, daemon=True).start()
    serve(link, app, base)


ERRORS = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # stays open if sys.stderr is closed
STREAMS = ERRORS, sys.stderr, sys.stdout
for stream in STREAMS[1:]:
    stream.reconfigure(errors="backslashreplace", line_buffering=True)
SOCKET = socket.socket(fileno=os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the application must not read the stream as its standard input
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, ignore_in_worker)
__import__("faulthandler").register(signal.SIGUSR1, ERRORS)
main(Link(SOCKET))
