"""Starts and stops the servers that are compared, and reads what the kernel knows of them."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

from . import machine, processes

ENGINES = ["event", "threads", "pool", "iterative"]
RIVALS = ["nginx", "lighttpd", "tornado", "http.server"]
POOL_SIZE = 20
KERNEL_STACK_KIB = 16  # a thread's stack inside the kernel, on x86-64 and arm64; it is in no RSS
HEADER_TIMEOUT = 10  # seconds; the server's default, given all the same, because the report speaks of it


class CannotStart(Exception):
    pass


def workers(name):
    """How many kept connections a server serves at once. None: as many as there are."""
    return {"pool": POOL_SIZE, "iterative": 1}.get(name)


class Server:
    """A server that runs. `pids` are all of its processes."""

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
        """User and system time, threads that have ended included."""
        ticks = 0
        for pid in self.pids:
            fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if fields:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """What its memory comes to, in KiB: pages, page tables, and a kernel stack for each thread."""
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
        return lines[-1][:200] if lines else "it said nothing"

    def death(self):
        """A sentence on how it died."""
        code = self.process.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return f"{self.name} {how}: {self.last_words()}"

    def stop(self):
        """Returns what it used in its life (CPU time, context switches), or None when it had died before."""
        return processes.end(self.process)


def start(lab, name, cores=None):
    """Starts an engine of ours or a rival on the server's core, and waits until it listens."""
    return listening(name, lambda: _engine(lab, name, cores) if name in ENGINES else _rival(lab, name, cores))


def listening(name, make):
    """What `make` starts, once it listens."""
    # A port that was free may be taken a moment later: only rivals, who cannot pick one themselves, need the attempts.
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


def _engine(lab, name, cores):
    argv = [lab.binary, "--engine", name, "--pool-size", POOL_SIZE, "--port", 0, "--bind", "127.0.0.1"]
    argv += ["--access-log", "off", "--debug-endpoints", "--header-timeout", f"{HEADER_TIMEOUT}s", "--grace-period", 0]
    argv += ["--max-connections", lab.max_connections, "--directory", lab.store, lab.site]
    return spawn(lab, name, argv, cores, port=None)


def _rival(lab, name, cores):
    port = free_port()
    here = Path(__file__).parent.parent / "compare" / "conf"
    if name in ("nginx", "lighttpd"):
        program = machine.find(name)
        if not program:
            raise CannotStart(f"{name} is not installed; on Debian: apt-get install {name}")
        text = (here / f"{name}.conf").read_text()
        for word, value in {"@PORT@": port, "@SITE@": lab.site, "@SCRATCH@": lab.scratch}.items():
            text = text.replace(word, str(value))
        config = lab.scratch / f"{name}.conf"
        config.write_text(text)
        argv = [program, "-c", config] if name == "nginx" else [program, "-D", "-f", config]
        if name == "nginx":
            argv += ["-p", lab.scratch, "-e", "stderr"]
    else:
        script = "tornado_server.py" if name == "tornado" else "http_server.py"
        argv = [lab.python, here / script, port, lab.site]
    return spawn(lab, name, argv, cores, port)


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
    """Returns what went wrong, or nothing."""
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
    """Looks without knocking: an iterative server would have to serve the probe first."""
    wanted = f"0100007F:{port:04X}"
    any_address = f"00000000:{port:04X}"
    for line in machine.read("/proc/net/tcp").splitlines()[1:]:
        fields = line.split()
        if fields[1] in (wanted, any_address) and fields[3] == "0A":
            return True
    return False
