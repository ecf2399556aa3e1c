"""Opens thousands of idle or slow clients, beside the measured load.

    crowd.py --port P --count N --kind idle|drip|sip

idle  sends one request, checks the answer, keeps the connection and sends nothing more
drip  sends a request head that never ends, one byte a second
sip   asks for a large file and reads 1 KiB of it a second

Prints a line of JSON when all are connected, and another when standard input ends; then it exits. No client connects again:
an experiment ends before the server's timeouts (10 s for a head) would end the first connection.
"""

import argparse
import errno
import json
import os
import select
import socket
import struct
import sys
import time

TICKS = 100  # a second has this many ticks, and each client acts in one of them: together they would be a burst
SMALL_WINDOW = 4096


class Client:
    """One socket, and what the server has sent on it."""

    def __init__(self, port, kind):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closing sends RST. Otherwise 10,000 connections in TIME_WAIT would remain for the next measurement.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if kind == "sip":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        self.connected = self.answered = self.lost = self.asked = False
        self.reply = b""
        error = self.socket.connect_ex(("127.0.0.1", port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))


class Crowd:
    def __init__(self, options):
        self.options = options
        self.wrong = 0
        self.clients = []
        self.settled = 0  # clients that are connected (kind idle: and answered), or have lost their connection
        self.poll = select.epoll()
        self.by_fd = {}
        request = f"GET {options.path} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n"
        self.first = {
            "idle": request + "\r\n",
            "drip": "G",
            "sip": request + "\r\n",
        }[options.kind].encode()
        self.rest = f"ET {options.path} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\nX-Slow: {'x' * 4000}".encode()

    def gather(self):
        """Connects all, at most 256 at a time. Ends when all have settled, or nothing has changed for `patience` seconds."""
        last_move = time.monotonic()
        at_once = 256
        while self.settled < self.options.count:
            while len(self.clients) < self.options.count and len(self.clients) - self.settled < at_once:
                self.add()
            if self.take_events(0.02):
                last_move = time.monotonic()
            elif time.monotonic() - last_move > self.options.patience:
                if len(self.clients) == self.options.count:
                    return
                at_once = self.options.count  # the server answers no more clients: connect the remaining ones without waiting
                last_move = time.monotonic()

    def done(self, client):
        return client.answered if self.options.kind == "idle" else client.connected

    def add(self):
        client = Client(self.options.port, self.options.kind)
        self.clients.append(client)
        self.by_fd[client.socket.fileno()] = client
        events = select.EPOLLOUT | select.EPOLLET | (select.EPOLLIN if self.options.kind == "idle" else 0)
        self.poll.register(client.socket, events)

    def take_events(self, seconds):
        moved = False
        for fd, events in self.poll.poll(seconds):
            client = self.by_fd[fd]
            was = self.done(client) or client.lost
            self.on_event(client, events)
            if not was and (self.done(client) or client.lost):
                self.settled += 1
                moved = True
        return moved

    def on_event(self, client, events):
        try:
            if events & (select.EPOLLERR | select.EPOLLHUP):
                client.lost = True
                return
            if events & select.EPOLLOUT and not client.asked:
                client.connected = client.asked = True
                client.socket.send(self.first)
            if events & select.EPOLLIN and self.options.kind == "idle":
                client.reply += client.socket.recv(65536)
                self.check(client)
        except BlockingIOError:
            pass
        except OSError:
            client.lost = True

    def check(self, client):
        """Checks the status and length of the one answer of an idle client."""
        head, end, body = client.reply.partition(b"\r\n\r\n")
        if not end or client.answered:
            return
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"-1"))
        if len(body) < length:
            return
        client.answered = True
        right = head.split()[1] == b"200" and length == self.options.length == len(body)
        self.wrong += not right
        client.reply = b""

    def tick(self, number):
        """Lets each slow client act once a second: in each tick, one of TICKS shares of them."""
        for index in range(number % TICKS, len(self.clients), TICKS):
            client = self.clients[index]
            at = number // TICKS
            try:
                if not client.connected or client.lost:
                    continue
                if self.options.kind == "drip":
                    client.socket.send(self.rest[at:at + 1])
                elif self.options.kind == "sip" and client.socket.recv(1024) == b"":
                    client.lost = True
            except BlockingIOError:
                pass
            except OSError:
                client.lost = True

    def report(self):
        counts = {name: sum(getattr(client, name) for client in self.clients) for name in ("connected", "answered", "lost")}
        print(json.dumps({**counts, "wrong": self.wrong}), flush=True)

    def stay(self):
        """Lets the clients act until standard input ends."""
        begin, number = time.monotonic(), 0
        slow = self.options.kind != "idle"
        while True:
            due = begin + (number + 1) / TICKS
            wait = max(0, due - time.monotonic()) if slow else None
            if select.select([sys.stdin], [], [], wait)[0] and not os.read(0, 64):
                return
            if slow:
                self.tick(number)
                number += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--kind", choices=["idle", "drip", "sip"], required=True)
    parser.add_argument("--path", default="/page.txt")
    parser.add_argument("--length", type=int, default=-1)
    parser.add_argument("--patience", type=float, default=0.5)
    crowd = Crowd(parser.parse_args())
    crowd.gather()
    crowd.report()
    crowd.stay()
    crowd.report()


if __name__ == "__main__":
    main()
