"""Repeats a measurement that the machine has disturbed, and says of a whole run whether it may be kept.

A measurement is disturbed if other programs used the cores, or if a core was slower than it can be: on a virtual machine
another guest can slow a core down, and no figure of this machine shows it.
"""

import os
import time

MEASUREMENTS = 4  # of one point at most
SLOWER = 1.25  # a core that takes this many times its shortest time for the same work is disturbed
PATIENCE = 10  # seconds to wait for a slow core before a measurement begins
QUIET = 240  # seconds to wait for a quiet machine before a run begins
FEW = 0.02  # share of measurements that may stay disturbed in a run that is kept
BUSY = 0.25  # load average for each core above which a run is not kept


def await_quiet(cores):
    """Waits until the load of what was done before, such as building, has left the load average; not for ever."""
    deadline = time.monotonic() + QUIET
    while os.getloadavg()[0] > BUSY * cores and time.monotonic() < deadline:
        time.sleep(1)


class Pace:
    """Compares how fast the cores are with how fast they have been at best."""

    def __init__(self, cores):
        self.cores = sorted(cores)
        self.best = {core: min(_work(core) for _ in range(20)) for core in self.cores}

    def is_slow(self):
        took = {core: _work(core) for core in self.cores}
        self.best = {core: min(took[core], self.best[core]) for core in self.cores}
        return any(took[core] > SLOWER * self.best[core] for core in self.cores)

    def settle(self):
        """Waits until the cores are as fast as usual, or until the patience is at its end."""
        deadline = time.monotonic() + PATIENCE
        while self.is_slow() and time.monotonic() < deadline:
            time.sleep(0.2)


def _work(core):
    """The shortest of three times that a fixed piece of work takes on a core, in seconds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            sum(number * number for number in range(20000))
            took.append(time.perf_counter() - began)
        return min(took)
    finally:
        os.sched_setaffinity(0, before)


def measure(pace, act, say):
    """The outcome of `act`, measured again while it is disturbed. If it stays disturbed, the outcome that was disturbed least."""
    outcomes = []
    for _ in range(MEASUREMENTS):
        pace.settle()
        outcome = act()
        flags = outcome["flags"]
        flags["disturbed"] = flags["disturbed"] or pace.is_slow()
        outcome["measurements"] = len(outcomes) + 1
        outcomes.append(outcome)
        if not flags["disturbed"]:
            return outcome
        say("disturbed")
    best = min(outcomes, key=lambda outcome: outcome["numbers"].get("others_busy") or 0)
    return {**best, "measurements": len(outcomes)}


def why_not_kept(load_average, cores, flags):
    """Why a run is too disturbed to be kept; an empty string if it is not. `flags`: of each of its measurements."""
    disturbed = sum(flag["disturbed"] for flag in flags)
    if load_average > BUSY * cores:
        return f"the machine was busy before the run began (load average {load_average:.1f}); wait until it is quiet"
    if disturbed > FEW * len(flags):
        return f"{disturbed} of {len(flags)} measurements stayed disturbed; repeat the run on a quiet machine"
    return ""
