"""Sees that all is there before anything is measured. What is missing is said in one sentence, with what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import machine, processes

REQUIREMENTS = {
    "matplotlib": "matplotlib==3.10.3",
    "tornado": "tornado==6.5.1",
    "gunicorn": "gunicorn==27.0.1",
    "waitress": "waitress==3.0.2",
    "flask": "flask==3.1.3",
}


class Missing(Exception):
    pass


def need_strace_and_wrk():
    for program in ("wrk", "strace"):
        if machine.find(program):
            continue
        if os.geteuid() == 0 and shutil.which("apt-get"):
            say(f"installing {program}")
            _call(["apt-get", "install", "-y", "-qq", program], f"{program} could not be installed", quiet=True)
        if not machine.find(program):
            raise Missing(f"{program} is missing; on Debian and Ubuntu: sudo apt-get install {program}")


def build_server(root):
    """cargo build --release; returns the binary."""
    if not shutil.which("cargo"):
        raise Missing("cargo is missing; install Rust from https://rustup.rs")
    say("building the server (cargo build --release)")
    _call(["cargo", "build", "--release", "--locked", "--manifest-path", root / "Cargo.toml"], "the server does not build")
    return target(root) / "release" / "dustdevil"


def build_load(root):
    """Compiles load.c; returns the program."""
    return build_c(root, Path(__file__).parent / "load.c", "compare-load")


def build_c(root, source, name):
    """Compiles a C program, when it is older than its source; returns it."""
    compiler = next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)
    if not compiler:
        raise Missing("a C compiler is missing; on Debian and Ubuntu: sudo apt-get install gcc libc6-dev")
    program = target(root) / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        problem = f"{source.relative_to(root)} does not compile (it needs Linux, and glibc 2.35)"
        _call([compiler, "-O2", "-o", program, source, "-lm"], problem)
    return program


def private_python(root, packages, base=sys.executable, name="compare-venv"):
    """A Python of our own with some packages, below target; made once. Returns its interpreter."""
    home = target(root) / name
    python = home / "bin" / "python"
    wanted = [REQUIREMENTS[name] for name in packages]
    done = home / "installed.txt"
    have = machine.read(done).splitlines()
    if python.exists() and set(wanted) <= set(have):
        return python
    say(f"making a private Python with {' and '.join(packages)} (once, in {home})")
    _call([base, "-m", "venv", home], "a private Python could not be made; on Debian and Ubuntu: sudo apt-get install python3-venv")
    argv = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    _call(argv, f"pip could not install {' '.join(wanted)}; is the network there?")
    done.write_text("\n".join(sorted({*have, *wanted})) + "\n")
    return python


def target(root):
    return Path(os.environ.get("CARGO_TARGET_DIR") or root / "target").resolve()


def say(text, who="compare"):
    print(f"{who}: {text}", file=sys.stderr, flush=True)


def _call(argv, problem, quiet=False):
    pipe = subprocess.PIPE if quiet else None
    process = processes.start(argv, os.sched_getaffinity(0), stdin=subprocess.DEVNULL, stdout=pipe)
    process.communicate()
    code = process.returncode
    processes.end(process)
    if code:
        raise Missing(f"{problem} (exit code {code})")
