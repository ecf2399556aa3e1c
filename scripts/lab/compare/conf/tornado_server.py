"""Tornado for scripts/compare: one process, its own static file handler, no log.

    python tornado_server.py PORT SITE
"""

import asyncio
import logging
import sys

from tornado.netutil import bind_sockets
from tornado.httpserver import HTTPServer
from tornado.web import Application, StaticFileHandler


async def main(port, site):
    logging.getLogger("tornado.access").disabled = True
    files = Application([(r"/(.*)", StaticFileHandler, {"path": site})])
    server = HTTPServer(files, idle_connection_timeout=75)
    server.add_sockets(bind_sockets(port, "127.0.0.1", backlog=4096))
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
