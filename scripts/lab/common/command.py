"""What the laboratory's commands have in common: how they are told what to do, and how they end."""

import shutil
import sys
from pathlib import Path

from . import prepare, processes


def run(who, act):
    """Acts, and gives back the exit code; whatever happens, no program is left running."""
    processes.stop_on_signals()
    try:
        return act()
    except prepare.Missing as error:
        print(f"{who}: {error}", file=sys.stderr)
        return 2
    except processes.Stopped as error:
        print(f"\n{who}: {error}", file=sys.stderr)
        return 130
    finally:
        processes.end_all()


def add_extent(parser, rows, quick_rounds, quick_seconds):
    """The flags that say how much is measured, and of which build."""
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each row (default: 5, quick: {quick_rounds})")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"how long a measurement lasts (default: 2, quick: {quick_seconds})")
    parser.add_argument("--rows", default="", metavar="NAMES", help=f"some rows only: {','.join(rows)}")
    parser.add_argument("--binary", type=Path, metavar="FILE", help="measure this build of dustdevil instead of building one")


def add_keep(parser, kept):
    parser.add_argument("--keep", action="store_true", help=f"also copy a complete result to scripts/results/{kept.name}, to be committed")


def keep(folder, kept, names, is_complete, *who):
    """What --keep asks for."""
    if not is_complete:
        return prepare.say("not kept: only a complete and right result is", *who)
    kept.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, kept / name)
    prepare.say(f"kept in {kept}", *who)


def read_extent(parser, options, rows, quick_rounds, quick_seconds):
    options.rows = chosen(parser, "--rows", options.rows, rows)
    if options.rounds is None:
        options.rounds = quick_rounds if options.quick else 5
    if options.seconds is None:
        options.seconds = quick_seconds if options.quick else 2.0
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds are positive")
    if options.binary and not options.binary.is_file():
        parser.error(f"{options.binary}: no such file")


def chosen(parser, flag, words, known):
    names = [name for name in words.split(",") if name]
    for name in names:
        if name not in known:
            parser.error(f"{flag} {name}: choose from {', '.join(known)}")
    return names or known
