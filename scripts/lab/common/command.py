"""Code that the commands of the lab share: flags, exit codes, --keep."""

import shutil
import sys
from pathlib import Path

from . import prepare, processes


def run(name, act):
    """Runs `act` as the command `name` and returns the exit code. Ends all programs that it has started."""
    prepare.command_name = name
    processes.stop_on_signals()
    try:
        return act()
    except prepare.Missing as error:
        prepare.say(error)
        return 2
    except processes.Stopped as error:
        print(file=sys.stderr)
        prepare.say(error)
        return 130
    finally:
        processes.end_all()


def add_extent(parser, rows, quick_rounds, quick_seconds):
    """Adds the flags for the length of the run and for the build to measure."""
    parser.add_argument("--rounds", type=int, metavar="N", help=f"measure each row N times (default: 5, with --quick: {quick_rounds})")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"length of one measurement, in seconds (default: 2, with --quick: {quick_seconds})"
    )
    parser.add_argument("--rows", default="", metavar="NAMES", help=f"measure these rows only: {','.join(rows)}")
    parser.add_argument("--binary", type=Path, metavar="FILE", help="measure this build of dustdevil instead of building one")


def read_extent(parser, options, rows, quick_rounds, quick_seconds):
    options.rows = chosen(parser, "--rows", options.rows, rows)
    if options.rounds is None:
        options.rounds = quick_rounds if options.quick else 5
    if options.seconds is None:
        options.seconds = quick_seconds if options.quick else 2.0
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if options.binary and not options.binary.is_file():
        parser.error(f"--binary {options.binary}: no such file")


def chosen(parser, flag, words, known):
    """The names in a comma-separated list. If the list is empty, all known names."""
    names = [name for name in words.split(",") if name]
    for name in names:
        if name not in known:
            parser.error(f"{flag} {name}: choose from {', '.join(known)}")
    return names or known


def add_keep(parser, kept):
    parser.add_argument(
        "--keep", action="store_true", help=f"also copy the result to scripts/results/{kept.name}, if it is complete and the machine was quiet, to be committed"
    )


def keep(folder, kept, names, why_not):
    """Copies the named files of a result to the folder of kept runs, unless there is a reason not to."""
    if why_not:
        return prepare.say(f"not kept: {why_not}")
    kept.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, kept / name)
    prepare.say(f"kept in {kept}")
