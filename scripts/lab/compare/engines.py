"""The servers to compare: dustdevil's engines, and the other servers of --against."""

from pathlib import Path

from ..common import machine, servers

ENGINES = ["event", "threads", "pool", "iterative"]
RIVALS = ["nginx", "lighttpd", "tornado", "http.server"]
POOL_SIZE = 20
HEADER_TIMEOUT = 10  # seconds: the default. It is on the command line all the same, because the report names it


def workers(name):
    """How many persistent connections a server serves at once. None: all."""
    return {"pool": POOL_SIZE, "iterative": 1}.get(name)


def start(lab, name, cores=None):
    """Starts an engine or another server on the server's core, and waits until it listens."""
    return servers.listening(name, lambda: _engine(lab, name, cores) if name in ENGINES else _rival(lab, name, cores))


def _engine(lab, name, cores):
    argv = [lab.binary, "--engine", name, "--port", 0, "--bind", "127.0.0.1"]
    argv += ["--pool-size", POOL_SIZE] if name == "pool" else []
    argv += ["--access-log", "off", "--debug-endpoints", "--header-timeout", f"{HEADER_TIMEOUT}s", "--grace-period", 0]
    argv += ["--max-connections", lab.max_connections, "--directory", lab.store, lab.site]
    return servers.spawn(lab, name, argv, cores, port=None)


def _rival(lab, name, cores):
    port = servers.free_port()
    here = Path(__file__).parent / "conf"
    if name in ("nginx", "lighttpd"):
        program = machine.find(name)
        if not program:
            raise servers.CannotStart(f"{name} is not installed; on Debian: apt-get install {name}")
        text = (here / f"{name}.conf").read_text()
        for word, value in {"@PORT@": port, "@SITE@": lab.site, "@SCRATCH@": lab.scratch}.items():
            text = text.replace(word, str(value))
        config = lab.scratch / f"{name}.conf"
        config.write_text(text)
        argv = [program, "-c", config] if name == "nginx" else [program, "-D", "-f", config]
        if name == "nginx":
            argv += ["-p", lab.scratch, "-e", "stderr"]
    else:
        script = "tornado_server.py" if name == "tornado" else "http_server.py"
        argv = [lab.python, here / script, port, lab.site]
    return servers.spawn(lab, name, argv, cores, port)
