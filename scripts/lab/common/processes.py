"""Starts programs on chosen cores, and ends them with this process: after an error, Ctrl-C, or kill -9."""

import ctypes
import os
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_running = []


class Stopped(Exception):
    """A signal asked this process to end: Ctrl-C, a closed terminal, or SIGTERM."""


def stop_on_signals():
    """Turns SIGINT, SIGTERM and SIGHUP into an exception, so that every `finally` runs."""

    def stop(number, _frame):
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def start(argv, cores, **options):
    """Starts a program in a new session, so that Ctrl-C reaches this process only, which then ends the others."""

    def prepare():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.sched_setaffinity(0, cores)

    process = subprocess.Popen([str(word) for word in argv], preexec_fn=prepare, start_new_session=True, **options)
    _running.append(process)
    return process


def run(argv, cores, seconds):
    """Runs a program, for at most `seconds`. Returns (exit code, standard output, standard error)."""
    process = start(argv, cores, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return None, "", f"it did not end within {seconds:.0f} s"
    finally:
        end(process)
    return process.returncode, out, err


def end(process, patience=3.0):
    """Ends a program and its session by SIGTERM, and after `patience` seconds by SIGKILL. Returns its rusage, or None if it had
    ended before."""
    usage = None
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while usage is None:
            pid, status, taken = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                usage = taken
            elif time.monotonic() > deadline:
                _signal(process, signal.SIGKILL)
                deadline = float("inf")
            else:
                time.sleep(0.005)
    _signal(process, signal.SIGKILL)  # processes of its session that still run
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe and not pipe.closed:
            pipe.close()
    if process in _running:
        _running.remove(process)
    return usage


def end_all():
    for process in list(_running):
        end(process, patience=0.5)


def _signal(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
