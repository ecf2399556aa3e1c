"""The servers that an application runs on: dustdevil, gunicorn, uWSGI behind nginx and so on. Each has one worker process."""

import os
import re
from pathlib import Path

from ..common import machine, measure, processes, servers

HERE = Path(__file__).resolve().parent
APPLICATIONS = HERE / "apps"
APPS = {"hello": "bench_app:hello", "flask": "bench_flask:app"}
PLUGIN = Path("/usr/lib/uwsgi/plugins/python3_plugin.so")  # of Debian; uWSGI from pip has Python built in

ABOUT = {
    "dustdevil": "--wsgi-workers 1 --access-log off, release build",
    "gunicorn": "sync, one worker; it closes every connection after an answer",
    "nginx+uwsgi": "one process each, over a Unix socket; neither logs requests",
    "nginx+gunicorn": "one nginx process before gunicorn (sync, one worker), over a Unix socket",
    "waitress": "one process, its default of four threads",
}
# name: (program, Debian's packages)
NEEDS = {
    "nginx+uwsgi": [("nginx", ["nginx-light"]), ("uwsgi", ["uwsgi-core", "uwsgi-plugin-python3"])],
    "nginx+gunicorn": [("nginx", ["nginx-light"])],
}


class Tree(servers.Server):
    """A server made of several programs; the last one listens. `pids` are all of their processes."""

    def __init__(self, name, parts, port):
        super().__init__(name, parts[-1].process, port, parts[-1].log)
        self.parts = parts

    @property
    def pids(self):
        found, left = [], [part.process.pid for part in self.parts]
        while left:
            pid = left.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*"):
                left += map(int, machine.read(task / "children").split())
        return found

    def cpu_seconds(self):
        """User and system time of all processes, including children that have ended."""
        ticks = 0
        for pid in self.pids:
            fields = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self):
        """(PSS, RSS) of all processes, in bytes. A shared page counts in PSS once, divided among the processes, and in RSS for each."""
        sums = {"Pss": 0, "Rss": 0}
        for pid in self.pids:
            for field, value in re.findall(r"^(Pss|Rss):\s+(\d+) kB", machine.read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE):
                sums[field] += int(value) * 1024
        return sums["Pss"], sums["Rss"]

    def is_alive(self):
        return all(part.is_alive() for part in self.parts)

    def last_words(self):
        return "; ".join(part.last_words() for part in self.parts if not part.is_alive()) or super().last_words()

    def stop(self):
        for part in reversed(self.parts):
            processes.end(part.process)


def start(lab, name, app):
    """Starts a host with an application and waits until the application answers."""

    def make():
        port = servers.free_port()
        parts = []
        for program, argv in arguments(lab, name, APPS[app], port):
            parts.append(servers.spawn(lab, program, argv, None, port))
        return Tree(name, parts, port)

    return answering(servers.listening(name, make), "/")


def dustdevil(lab, name, *more):
    """Starts dustdevil with these arguments."""

    def make():
        port = servers.free_port()
        return Tree(name, [servers.spawn(lab, "dustdevil", dustdevil_with(lab, port, *more), None, port)], port)

    return servers.listening(name, make)


def dustdevil_with(lab, port, *more):
    argv = [lab.binary, "--quiet", "--port", port, "--bind", "127.0.0.1", "--access-log", "off", "--grace-period", 0]
    return [*argv, *(["--python", lab.python, "--wsgi-chdir", APPLICATIONS] if "--wsgi" in more else []), *more]


def answering(server, path):
    """Waits until a path is answered with 200, and returns the server. The program in front may listen before the application
    is ready."""
    problem = []

    def answers():
        try:
            return measure.reference(server, path) is not None
        except measure.Failed as error:
            problem[:] = [str(error)]
            return not server.is_alive()

    if not machine.until(answers, 15) or not server.is_alive():
        server.stop()
        raise servers.CannotStart(f"{server.name} does not answer: {problem[0] if problem else ''}; {server.last_words()}")
    return server


def arguments(lab, name, app, port):
    """The programs of a host, as (name, command line), in the order in which they are started."""
    unix = lab.scratch / f"{name}.socket"
    if name == "dustdevil":
        return [("dustdevil", dustdevil_with(lab, port, "--wsgi", app, "--wsgi-workers", 1))]
    if name == "waitress":
        return [("waitress", [lab.python, APPLICATIONS / "waitress_server.py", app, port])]
    gunicorn = [lab.python, "-m", "gunicorn", "--workers", 1, "--log-level", "error", "--chdir", APPLICATIONS]
    if name == "gunicorn":
        return [("gunicorn", [*gunicorn, "--bind", f"127.0.0.1:{port}", app])]
    if name == "nginx+gunicorn":
        passes = f"proxy_pass http://unix:{unix}; proxy_set_header Host $http_host; "
        passes += "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
        return [("gunicorn", [*gunicorn, "--bind", f"unix:{unix}", app]), nginx(lab, port, passes)]
    module, callable_ = app.split(":")
    argv = [machine.find("uwsgi"), *(["--plugin", "python3"] if PLUGIN.exists() else []), "--master", "--processes", 1, "--socket", unix]
    argv += ["--chmod-socket=666", "--die-on-term", "--need-app", "--disable-logging", "--virtualenv", lab.python.parent.parent]
    argv += ["--chdir", APPLICATIONS, "--module", module, "--callable", callable_]
    return [("uwsgi", argv), nginx(lab, port, f"include /etc/nginx/uwsgi_params; uwsgi_pass unix:{unix};")]


def nginx(lab, port, passes):
    text = (HERE / "conf" / "nginx.conf").read_text()
    for word, value in {"@PORT@": port, "@SCRATCH@": lab.scratch, "@PASS@": passes}.items():
        text = text.replace(word, str(value))
    path = lab.scratch / "nginx.conf"
    path.write_text(text)
    return "nginx", [machine.find("nginx"), "-c", path, "-p", lab.scratch, "-e", "stderr"]
