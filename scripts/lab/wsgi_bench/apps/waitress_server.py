"""waitress with its defaults (four threads), but without a warning in the log for each request that waits.

    waitress_server.py MODULE:NAME PORT
"""

import importlib
import logging
import sys

import waitress

logging.getLogger("waitress.queue").setLevel(logging.ERROR)
module, name = sys.argv[1].split(":")
waitress.serve(getattr(importlib.import_module(module), name), listen=f"127.0.0.1:{sys.argv[2]}")
