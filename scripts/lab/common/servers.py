"""Starts and stops servers, and reads their CPU time and memory from /proc."""

import os
import re
import socket
import subprocess
import time

from . import machine, processes

KERNEL_STACK_KIB = 16  # the kernel's stack of a thread, on x86-64 and arm64; RSS does not contain it


class CannotStart(Exception):
    """A server has not started. The text says why."""


class Server:
    """A running server. `pids` are all of its processes."""

    def __init__(self, name, process, port, log):
        self.name, self.process, self.port, self.log = name, process, port, log
        self.references = {}

    @property
    def pids(self):
        children = machine.read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()
        return [self.process.pid, *map(int, children)]

    def is_alive(self):
        return self.process.poll() is None

    def cpu_seconds(self):
        """The server's user and system time, including threads that have ended."""
        ticks = 0
        for pid in self.pids:
            fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if fields:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """The server's memory in KiB: resident pages, page tables, and a kernel stack for each thread."""
        sums = {"VmRSS": 0, "VmPTE": 0, "Threads": 0}
        for pid in self.pids:
            status = machine.read(f"/proc/{pid}/status")
            for field in sums:
                found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
                sums[field] += int(found[1]) if found else 0
        total = sums["VmRSS"] + sums["VmPTE"] + sums["Threads"] * KERNEL_STACK_KIB
        return {"memory_kib": total, "rss_kib": sums["VmRSS"], "threads": sums["Threads"]}

    def last_words(self):
        lines = [line for line in machine.read(self.log).splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"

    def death(self):
        """A sentence that says how the server ended."""
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return f"{self.name} {how}: {self.last_words()}"

    def stop(self):
        """Ends the server. Returns its rusage (CPU time, context switches), or None if it had ended before."""
        return processes.end(self.process)


def listening(name, make):
    """Starts a server by `make`, and returns it when it listens."""
    # A free port may be taken before the server binds it. Only servers that cannot choose a port themselves need more attempts.
    problem = ""
    for _ in range(3):
        server = make()
        problem = _wait_until_it_listens(server)
        if not problem:
            return server
        server.stop()
        if "use" not in problem.lower():
            break
    raise CannotStart(f"{name} does not start: {problem}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(lab, name, argv, cores, port):
    log = lab.scratch / f"{name}.log"
    with open(log, "wb") as sink:
        process = processes.start(
            argv, cores or lab.cores[0], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink, cwd=lab.scratch
        )
    return Server(name, process, port, log)


def _wait_until_it_listens(server, seconds=10):
    """Waits until the server listens. Returns the error, or an empty string."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not server.is_alive():
            return server.last_words()
        if server.port is None:
            found = re.search(r"^http://127\.0\.0\.1:(\d+)/", machine.read(server.log), re.MULTILINE)
            server.port = int(found[1]) if found else None
        if server.port and _listens(server.port):
            return ""
        time.sleep(0.01)
    return f"it does not listen after {seconds} s: {server.last_words()}"


def _listens(port):
    """Whether the server listens, from /proc. A test connection would disturb an iterative server, which would serve it first."""
    wanted = f"0100007F:{port:04X}"
    any_address = f"00000000:{port:04X}"
    for line in machine.read("/proc/net/tcp").splitlines()[1:]:
        fields = line.split()
        if fields[1] in (wanted, any_address) and fields[3] == "0A":
            return True
    return False
