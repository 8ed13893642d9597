"""Transactional outbox: what an application imports. ``relay`` is the service, and this knows nothing of it.

    add  emit  add_all  add_unique  insert     write a job with your data      jobs.py, new.py, sessions.py
    errors  states  models                     what everything else rests on
    payload  names                             what may be stored and sent

Importing it costs a few milliseconds and loads SQLAlchemy alone: no driver, no broker, no Alembic.
"""

from __future__ import annotations

from outbox.errors import Misuse, OutboxError
from outbox.jobs import Added, Skipped, add, add_all, add_unique, add_unique_async, emit, insert
from outbox.new import New
from outbox.states import State

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in groups
    # writing jobs
    "add",
    "emit",
    "add_all",
    "New",
    "add_unique",
    "add_unique_async",
    "Added",
    "Skipped",
    "insert",
    # what everything rests on
    "State",
    "OutboxError",
    "Misuse",
]
