"""Python's http.server for scripts/compare: a thread for each connection, HTTP/1.1 to keep connections, no log.

    python http_server.py PORT SITE
"""

import functools
import http.server
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096

    def handle_error(self, request, client_address):
        """Prints nothing if a client has closed its connection."""


port, site = int(sys.argv[1]), sys.argv[2]
Server(("127.0.0.1", port), functools.partial(Handler, directory=site)).serve_forever()
