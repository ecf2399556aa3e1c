"""A network of our own: a loopback that nobody else uses, with reno. It goes with the last process in it.

How much a large file costs hangs on the congestion control of the machine: bbr, which paces, can double it, and it is not
what is measured here.
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
    """Moves this process, and with it all it starts, into a network of its own. Returns the congestion control there."""
    if not stay and os.geteuid() == 0:
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
            _loopback_up()
        else:
            notes.append("A network namespace could not be made; it was measured on the machine's own loopback.")
        if machine.output(["readlink", "/proc/self/ns/net"]) != machine.output(["readlink", "/proc/1/ns/net"]):
            try:
                SETTING.write_text(WANTED)
            except OSError as error:
                notes.append(f"The congestion control could not be set to {WANTED}: {error.strerror}.")
    elif not stay:
        notes.append("Not root, so it was measured on the machine's own loopback, not in a network of its own.")
    found = machine.read(SETTING, "unknown")
    if found != WANTED:
        notes.append(f"The congestion control was {found}, not {WANTED}: large files may cost more than they have to.")
    return found


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
