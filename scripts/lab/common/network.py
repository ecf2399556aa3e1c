"""A network namespace for the run, so that its loopback has no other traffic and uses reno. The kernel removes it with the
last process in it.

The cost of a large file depends on the congestion control: bbr, which paces, can double it.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from . import machine

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
WANTED = "reno"
SETTING = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def enter(stay, notes):
    """Moves this process, and all that it starts, into a new network namespace, unless `stay` is true. Returns the congestion control."""
    if not stay and os.geteuid() == 0:
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
            _loopback_up()
        else:
            notes.append("No network namespace could be made: the run used the machine's own loopback.")
        if machine.output(["readlink", "/proc/self/ns/net"]) != machine.output(["readlink", "/proc/1/ns/net"]):
            try:
                SETTING.write_text(WANTED)
            except OSError as error:
                notes.append(f"The congestion control could not be set to {WANTED}: {error.strerror}.")
    elif not stay:
        notes.append("Not run as root: the run used the machine's own loopback, not a network namespace.")
    found = machine.read(SETTING, "unknown")
    if found != WANTED:
        notes.append(f"The congestion control was {found}, not {WANTED}: the figures of large files may be too high.")
    return found


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
