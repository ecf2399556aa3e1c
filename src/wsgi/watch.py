"""With --wsgi-reload, runs in a thread of one worker. When a source has changed, it sends the server SIGHUP.

Two globals are set by worker.py: `folder` is the application's folder, `server` is the pid of the server.
"""
import os
import signal
import sys
import time


def sources():
    """The modification time of every loaded module and of every source below `folder`, without virtual environments."""
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and not os.path.exists(top + "/" + name + "/pyvenv.cfg")]
        files.update(top + "/" + name for name in names if name.endswith(".py"))
    times = {}
    for file in files:
        try:
            times[file] = os.stat(file).st_mtime_ns
        except OSError:
            pass  # a module without a file, or a file that was just removed
    return times


seen = sources()
while os.getppid() == server:
    time.sleep(0.5)
    now = sources()
    # A newly loaded module is no change, but a new source in the folder is.
    if any(seen.get(file) != now[file] for file in now if file in seen or file.startswith(folder)):
        os.kill(server, signal.SIGHUP)
    seen = now
