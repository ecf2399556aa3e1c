"""Builds and installs the programs of a run before it measures. If one is missing, one sentence says so, with the remedy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import machine, processes

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "scripts" / "results"
REQUIREMENTS = {
    "matplotlib": "matplotlib==3.10.3",
    "tornado": "tornado==6.5.1",
    "gunicorn": "gunicorn==27.0.1",
    "waitress": "waitress==3.0.2",
    "flask": "flask==3.1.3",
}
command_name = "lab"  # set by command.run; messages begin with it


class Missing(Exception):
    """A program that the run needs is missing. The text names it, and says how to get it."""


def say(text):
    print(f"{command_name}: {text}", file=sys.stderr, flush=True)


def install(program, packages):
    """Tries to install the program if it is missing. Returns whether it is installed. Only root can install, and only with apt-get."""
    if not machine.find(program) and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {' '.join(packages)}")
        argv = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        processes.run(argv, os.sched_getaffinity(0), 300)
    return bool(machine.find(program))


def need(*programs):
    """Installs the programs, each from the package of its name, or raises Missing."""
    for program in programs:
        if not install(program, [program]):
            raise Missing(f"{program} is missing; on Debian and Ubuntu: sudo apt-get install {program}")


def build_server():
    """Runs cargo build --release; returns the binary."""
    if not shutil.which("cargo"):
        raise Missing("cargo is missing; install Rust from https://rustup.rs")
    say("building the server (cargo build --release)")
    _call(["cargo", "build", "--release", "--locked", "--manifest-path", ROOT / "Cargo.toml"], "the server does not build")
    return target() / "release" / "dustdevil"


def build_load():
    """Compiles the load generator; returns the program."""
    return build_c(Path(__file__).parent / "load")


def build_c(source):
    """Compiles a C program from a file, or from all files of a folder, if the program is older than its source. Returns the program."""
    compiler = next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)
    if not compiler:
        raise Missing("a C compiler is missing; on Debian and Ubuntu: sudo apt-get install gcc libc6-dev")
    program = target() / f"lab-{source.stem}"
    parts = [source] if source.is_file() else sorted(source.glob("*.[ch]"))
    if not program.exists() or program.stat().st_mtime < max(part.stat().st_mtime for part in parts):
        program.parent.mkdir(parents=True, exist_ok=True)
        problem = f"{source.relative_to(ROOT)} does not compile (it needs Linux and glibc 2.35)"
        _call([compiler, "-O2", "-o", program, *(part for part in parts if part.suffix == ".c"), "-lm"], problem)
    return program


def private_python(packages, base=sys.executable, name="compare-venv"):
    """Makes a virtual environment below target with the packages, unless there is one. Returns its interpreter."""
    home = target() / name
    python = home / "bin" / "python"
    wanted = [REQUIREMENTS[name] for name in packages]
    done = home / "installed.txt"
    have = machine.read(done).splitlines()
    if python.exists() and set(wanted) <= set(have):
        return python
    say(f"making a virtual environment with {' and '.join(packages)} (once, in {home})")
    _call([base, "-m", "venv", home], "the virtual environment cannot be made; on Debian and Ubuntu: sudo apt-get install python3-venv")
    argv = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    _call(argv, f"pip cannot install {' '.join(wanted)}; check the network")
    done.write_text("\n".join(sorted({*have, *wanted})) + "\n")
    return python


def target():
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


def _call(argv, problem):
    process = processes.start(argv, os.sched_getaffinity(0), stdin=subprocess.DEVNULL)
    process.communicate()
    code = process.returncode
    processes.end(process)
    if code:
        raise Missing(f"{problem} (exit code {code})")
