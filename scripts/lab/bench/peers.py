"""The servers that are measured, and the command line and configuration of each for a row. `limit` is the bare loop.

Each runs one worker. A row is not measured on a peer that cannot do it, or only with a module that is not installed.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..common import machine, processes, servers

CONFIGURATIONS = Path(__file__).parent / "conf"
PACKAGES = {"nginx": ["nginx-light"], "lighttpd": ["lighttpd", "lighttpd-mod-deflate"], "h2o": ["h2o"]}
MODULES = [Path(prefix) / "lighttpd" for prefix in ("/usr/lib", "/usr/lib64", "/usr/local/lib")]


@dataclass
class Peer:
    """A server that takes part. `arguments(lab, port, row)` returns its command line."""

    name: str
    arguments: object
    about: str
    can: set = field(default_factory=set)  # besides plain files: log, gzip, upload, mixed, hostile
    upload: tuple = ("PUT", 201)  # method, and the status of an upload that replaces a file


def all_peers():
    """All peers in the order of the tables, installed or not."""
    nginx = {"log", "gzip", "hostile"} | ({"upload", "mixed"} if _nginx_takes_uploads() else set())
    lighttpd = {"log"} | ({"gzip"} if any((folder / "mod_deflate.so").exists() for folder in MODULES) else set())
    return [
        Peer("dustdevil", _dustdevil, "release build, --engine event", {"log", "gzip", "upload", "mixed", "hostile"}, ("POST", 201)),
        Peer("nginx", _nginx(True), "sendfile, tcp_nopush and open_file_cache on", nginx, ("PUT", 204)),
        # h2o starves the uploads of "mixed", so that the row would have no figure.
        Peer("nginx-copy", _nginx(False), "sendfile, tcp_nopush and open_file_cache off", nginx - {"mixed", "hostile"}, ("PUT", 204)),
        Peer("lighttpd", _lighttpd, "", lighttpd),
        Peer("h2o", _h2o, "num-threads: 1", {"log", "gzip"}),
        Peer("limit", _limit, "a bare loop that sends one prepared answer", {"log", "gzip", "upload"}, ("PUT", 201)),
    ]


def program(name):
    """The path of a peer's program, None if it is not installed. nginx-copy is nginx."""
    return machine.find(name.split("-")[0])


def is_there(name):
    """Whether a peer can take part. dustdevil and limit are built for the run."""
    return name in ("dustdevil", "limit") or program(name) is not None


def start(lab, peer, row):
    def make():
        port = servers.free_port()
        return servers.spawn(lab, peer.name, peer.arguments(lab, port, row), None, port)

    return servers.listening(peer.name, make)


def _dustdevil(lab, port, row):
    argv = [lab.binary, "--quiet", "--port", port, "--bind", "127.0.0.1", "--max-connections", lab.max_connections]
    argv += ["--access-log", lab.log if row.needs == "log" else "off", "--grace-period", 0]
    return [*argv, "--directory", lab.store, lab.site]


def _limit(lab, port, row):
    return [lab.limit, "--port", port, *row.limit(lab)]


def _nginx(sendfile):
    def arguments(lab, port, row):
        path = _write(
            lab,
            "nginx.conf",
            PORT=port,
            LOG=f"{lab.log} combined" if row.needs == "log" else "off",
            SENDFILE="on" if sendfile else "off",
            CACHE="max=2000 inactive=60s" if sendfile else "off",
            GZIP="on" if row.needs in ("gzip", "hostile") else "off",
            LISTING="on" if row.needs == "hostile" else "off",
            DAV="dav_methods PUT;" if row.needs in ("upload", "mixed") else "",
        )
        return [program("nginx"), "-c", path, "-p", lab.scratch, "-e", "stderr"]

    return arguments


def _lighttpd(lab, port, row):
    modules = {"log": '"mod_accesslog"', "gzip": '"mod_deflate"'}.get(row.needs, "")
    more = {
        "log": f'accesslog.filename = "{lab.log}"',
        "gzip": 'deflate.mimetypes = ( "text/html" )\ndeflate.allowed-encodings = ( "gzip" )',
    }.get(row.needs, "")
    return [program("lighttpd"), "-D", "-f", _write(lab, "lighttpd.conf", PORT=port, MODULES=modules, MORE=more)]


def _h2o(lab, port, row):
    path = _write(
        lab,
        "h2o.conf",
        PORT=port,
        USER="user: root" if os.geteuid() == 0 else "",
        GZIP="[gzip]" if row.needs == "gzip" else "OFF",
        LOG=f"access-log: {lab.log}" if row.needs == "log" else "",
    )
    return [program("h2o"), "-c", path]


def _write(lab, name, **words):
    text = (CONFIGURATIONS / name).read_text()
    for word, value in {**words, "SITE": lab.site, "STORE": lab.store, "SCRATCH": lab.scratch, "FILES": lab.descriptors}.items():
        text = text.replace(f"@{word}@", str(value))
    path = lab.scratch / name
    path.write_text(text)
    return path


def _nginx_takes_uploads():
    found = program("nginx")
    if not found:
        return False
    code, out, err = processes.run([found, "-V"], os.sched_getaffinity(0), 10)
    return code == 0 and "http_dav_module" in out + err
