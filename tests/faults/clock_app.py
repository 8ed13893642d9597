"""A relay or a consumer whose clock on the wall jumps: ``python clock_app.py FILE relay|consumer ARGUMENTS``.

By how many seconds it is fast stands in FILE, which is read at each look at the clock.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

# Drivers and their friends first: they know the real types.
import kombu
import psycopg
import sqlalchemy
import wrong_clock

FRIENDS = (kombu, psycopg, sqlalchemy)
file = os.open(sys.argv[1], os.O_RDONLY)
wrong_clock.wear(lambda: float(os.pread(file, 32, 0)))
if sys.argv[2] == "relay":
    sys.argv[:] = sys.argv[2:]
    sys.argv.insert(0, "outbox")
    runpy.run_module("relay", run_name="__main__")
else:
    runpy.run_path(str(Path(__file__).with_name("consumer_app.py")), run_name="__main__")
