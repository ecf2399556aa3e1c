"""Files of a run: results that are replaced in one step, and a scratch folder in memory."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


def write(path, text):
    """Replaces the file in one step, so that a reader sees either the old text or the new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


@contextlib.contextmanager
def scratch(name):
    """A context manager: a folder for the files of one run of scripts/NAME, which is removed at the end.

    It is in memory where there is room, so that the server is measured and not a disk.
    """
    prefix = f"dustdevil-{name}-"
    folder = _memory_folder()
    _remove_leftovers(Path(folder or tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=folder) as path:
        yield Path(path)


def _memory_folder():
    """/dev/shm if it has 2 GiB free, else None: the default place for temporary files."""
    shared = Path("/dev/shm")
    try:
        return shared if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 << 30 else None
    except OSError:
        return None


def _remove_leftovers(folder, prefix):
    """Removes the folders of runs that were killed, because they take memory. A folder's name holds the process id of its run."""
    for old in folder.glob(f"{prefix}*"):
        pid = old.name[len(prefix):].split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)
