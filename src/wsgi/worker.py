"""The worker: imports one WSGI application and calls it (PEP 3333), one request at a time a thread.

It speaks no HTTP: the server parses, buffers, frames and sends. Between the two go frames of 16 bytes (kind and serial, lengths
of A and B), then A, then B, over a stream that was standard input. What a thread does next lies in its inbox, a
stream of slots: in each is a REQUEST that is small, or nothing for a frame that comes over the stream:
    to the worker    CONFIG   A: pairs; with it come a socket that closes with the server and those of the threads
                     REQUEST  A: environ as NAME\\0VALUE\\0..., B: the body. SPOOLED: the body is a file with it
                     CANCEL   the client has left: stop before the next chunk
    to the server    READY    the application is imported. FAILED: it is not, A says why, and the process ends
                     FULL     A: head (STATUS\\0NAME\\0VALUE\\0...), B: body: all of it, and the thread is free
                     DATA     A: head, the first time; B: a piece of the body
                     FILE     A: head; the body is the file that comes with it, from an offset: the length of B
                     LAST     the body is complete, and close() is still to be called. END: that has been, too
                     ABORT    the body broke off. ERROR: there is none. After these and END, the thread is free
When the server has gone, the process ends. Whatever the application raises does not end it.
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
ROOM, SLOT = 65536, 4096  # of a read, and what is copied together to be sent at once; what lies in an inbox
WHOLE, MOST = 262144, 1048576  # up to which pieces are joined, so that their length is known; the largest head
CONTROL, CLOEXEC = socket.CMSG_SPACE(256 * 4), socket.MSG_CMSG_CLOEXEC
PID = os.getpid()
# A whole head in one match: no control character, names that are tokens. NUL ends each part.
VALID_HEAD = re.compile(rb"[1-9]\d\d( [^\0-\x08\n-\x1f\x7f]*)?\0([\w!#$%&'*+.^`|~-]+\0[^\0-\x08\n-\x1f\x7f]*\0)*").fullmatch


class Link:
    """One thread's lines to the server: its stream and its inbox."""
    def __init__(self, sock, inbox=None):
        self.sock, self.inbox, self.files, self.poll, self.serial = sock, inbox, [], select.poll(), 0
        self.slot = memoryview(bytearray(SLOT))
        self.poll.register(sock, select.POLLIN)

    def read(self, count):
        """So many bytes of the stream; files that come with them are put aside."""
        data = bytearray()
        while len(data) < count:
            part, control, _, _ = self.sock.recvmsg(min(count - len(data), ROOM), CONTROL, CLOEXEC)
            for _, _, files in control:
                self.files += struct.unpack("%di" % (len(files) // 4), files)
            data += part or os._exit(0)
        return data

    def said(self):
        """The next frame of the stream."""
        word, a, b = HEADER.unpack(self.read(HEADER.size))
        return word, self.read(a), self.read(b)

    def frame(self):
        """What is to be done next; None when the server has gone."""
        while self.inbox.recv_into(self.slot):
            word, a, b = HEADER.unpack_from(self.slot)
            word, a, b = (word, self.slot[16:16 + a], self.slot[16 + a:16 + a + b]) if word else self.said()
            if word & 255 != CANCEL:  # a late one
                self.serial = word & ~255
                return word & 255, a, b

    def send(self, kind, a=b"", b=b"", offset=0, file=None):
        if os.getpid() != PID:
            os._exit(0)  # a child that the application forked: the answer is the parent's to give
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
    """Descriptor and position of a real file; None for a subclass, whose read() may differ, and for what is in /proc."""
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or not os.path.isfile(raw.fileno()) or not os.path.getsize(raw.fileno()):
        return None
    file.flush()
    return raw.fileno(), file.tell()


class Exchange:
    """One request: what start_response(), write() and the iteration share."""
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
        if self.begun and self.link.poll.poll(0) or self.over:
            self.over = True
            raise BrokenPipeError("the client has left, or the response is complete")
        if data:
            self.link.send(DATA, b"" if self.begun else self.take_head(), data)

    def send(self, result):
        """Sends what the application returned; True when the server knows by that that the thread is free."""
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
                self.link.send(LAST)  # nobody waits for close() to know that this is the end
        except BaseException:  # SystemExit and KeyboardInterrupt too: they are the application's own
            outcome = ABORT if self.begun else ERROR
            self.over or report()
        self.over = True  # what a thread of the application writes from here on would be part of another response
        try:
            if hasattr(result, "close"):
                result.close()
        except BaseException:
            report()
        free or self.link.send(outcome)


def tell(call, **arguments):
    try:
        call(**arguments)
    except (OSError, ValueError):
        pass  # the application has closed the stream


def report():
    tell(__import__("traceback").print_exc, file=ERRORS)


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
            environ["wsgi.input"] = io.BytesIO(body) if kind == REQUEST else open(link.files.pop(0), "rb")
            Exchange(link).run(app, environ)
            environ = body = None  # a large body is not kept until the next request
            for stream in STREAMS:
                tell(stream.flush)
    except BaseException:  # not the application's: a thread that is left without a word would hold its requests up
        report()
        os._exit(1)


def stand_fast(number, _):
    if os.getpid() != PID:  # the server answers these, and drains its workers; a child that was forked dies of them
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def main(link):
    config = link.said()[1]
    (lifeline, *files), link.files = link.files, []
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, PID)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)  # when the server is killed, SIGIO ends whatever hangs here
    select.select([lifeline], [], [], 0)[0] and os._exit(0)  # it has been already
    config = dict(zip(*[iter(os.fsdecode(bytes(config)).split("\0"))] * 2))
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


ERRORS = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # whoever closes sys.stderr
STREAMS = ERRORS, sys.stderr, sys.stdout
for stream in STREAMS[1:]:
    stream.reconfigure(errors="backslashreplace", line_buffering=True)
SOCKET = socket.socket(fileno=os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what the application reads as its standard input is not ours
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stand_fast)
__import__("faulthandler").register(signal.SIGUSR1, ERRORS)
main(Link(SOCKET))
