"""The machine that the results depend on: processor, kernel, limits, versions. And the choice of cores."""

import os
import platform
import re
import resource
import shutil
import subprocess
import time
from pathlib import Path

KERNEL_SETTINGS = [
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "kernel/threads-max",
    "kernel/pid_max",
]


def read(path, default=""):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default


def raise_descriptor_limit():
    """Raises the limit of open files as far as allowed. Returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = int(read("/proc/sys/fs/nr_open", "1048576"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def choose_cores():
    """Returns sets of cores: (for the server, for the load, all). The first two are the same if the machine has one core. Moves
    this process to the load's core."""
    usable = sorted(os.sched_getaffinity(0))
    server, load = {usable[0]}, {usable[1] if len(usable) > 1 else usable[0]}
    os.sched_setaffinity(0, load)
    return server, load, set(usable)


def describe(cores, descriptors, scratch):
    info = read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", info)
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    hypervisor = " hypervisor " in info
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(cores[2]),
        "virtual": hypervisor,
        "memory_mib": int(memory[1]) // 1024 if memory else None,
        "kernel": platform.release(),
        "system": dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
        .get("PRETTY_NAME", "")
        .strip('"'),
        "server_core": sorted(cores[0]),
        "load_core": sorted(cores[1]),
        "load_average_before": os.getloadavg()[0],
        "files_on": filesystem(scratch),
        "limits": {
            "open_files": descriptors,
            "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
            **{name.replace("/", "."): " ".join(read(f"/proc/sys/{name}").split()) for name in KERNEL_SETTINGS},
        },
    }


def filesystem(path):
    """The type of the path's file system."""
    best = ("", "unknown")
    for line in read("/proc/mounts").splitlines():
        _, mounted, kind = line.split()[:3]
        if (str(path) + "/").startswith(mounted.rstrip("/") + "/") and len(mounted) >= len(best[0]):
            best = (mounted, kind)
    return best[1]


def versions(root, binary, built_here):
    """The versions of the programs. If the server was built here, also the commit and the number of changed files."""
    found = {
        "commit": output(["git", "-C", root, "rev-parse", "HEAD"]) if built_here else "",
        "changed_files": len(output(["git", "-C", root, "status", "--porcelain"]).splitlines()) if built_here else 0,
        "dustdevil": output([binary, "--version"]),
        "wrk": output(["wrk", "--version"]).split("[")[0].strip(),
        "compiler": output(["rustc", "--version"]),
        "python": platform.python_version(),
    }
    for name, argv in {"nginx": ["nginx", "-v"], "lighttpd": ["lighttpd", "-v"]}.items():
        if find(name):
            found[name] = output([find(name), *argv[1:]])
    return found


def find(program):
    """The path of a program, or None. It also looks in sbin, where servers often are and which a user's PATH seldom has."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def output(argv):
    """The first line that a program prints, or an empty string; all lines of git."""
    try:
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().split("\n")[0] if argv[0] != "git" else done.stdout.strip()


class CoreClock:
    """Measures how busy the server's and the load's cores are, with all programs, from the creation of the object on."""

    def __init__(self, cores):
        self.cores = cores
        self.before = self.ticks()

    def ticks(self):
        sums = [0, 0]  # ticks: busy, and used by other guests of the hypervisor (steal)
        for line in read("/proc/stat").splitlines():
            name, *fields = line.split()
            if re.fullmatch(r"cpu\d+", name) and int(name[3:]) in self.cores:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
                sums[0] += user + nice + system + irq + softirq
                sums[1] += steal
        return sums

    def busy_seconds(self):
        tick = os.sysconf("SC_CLK_TCK")
        return sum(now - then for now, then in zip(self.ticks(), self.before)) / tick


def until(condition, seconds):
    """Waits until the condition holds, but at most `seconds`. Returns whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
