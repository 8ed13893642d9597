"""Transactional outbox: what an application imports. ``relay`` is the service, and this knows nothing of it.

    jobs         add, emit, add_all, add_unique, insert: write jobs with your data
                 (``new`` checks what you say of one, ``sessions`` the session you say it in)
    known        get, cancel: by a job's id
    handlers     Handlers: which function does which kind of job; Snooze, Cancel, Bury in ``outcomes``
    transitions  transition: move a job once per version, with a consumer of your own
    adoption     adopt: take a message once, whoever sent it
    schedules    Schedules: jobs that the clock adds; ``cron`` reads its expressions, ``slots`` has its SQL
    testing      what was added; run it without a broker
    payload      what may be stored and sent; ``payload.plain`` teaches it your types
    models       the tables; ``states`` the transitions, ``schema`` the revisions, ``grants`` the rights

Importing it takes a few milliseconds. A name is loaded when it is first used, and with ``add`` and its like
SQLAlchemy alone: no driver, no broker, no Alembic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outbox.errors import Misuse, OutboxError
from outbox.states import State

if TYPE_CHECKING:
    from outbox.adoption import adopt, adopt_async
    from outbox.handlers import Handlers
    from outbox.job import Job
    from outbox.jobs import Added, Skipped, add, add_all, add_unique, add_unique_async, emit, insert
    from outbox.known import cancel, cancel_async, get, get_async
    from outbox.leased import AsyncLeasedJob, LeasedJob
    from outbox.new import New
    from outbox.outcomes import Bury, Cancel, Snooze
    from outbox.schedules import Fired, Schedules
    from outbox.transitions import (
        Ahead,
        AlreadyApplied,
        Applied,
        Illegal,
        Missing,
        Result,
        Superseded,
        transition,
        transition_async,
    )

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in groups
    # write jobs
    "add",
    "emit",
    "add_all",
    "New",
    "add_unique",
    "add_unique_async",
    "Added",
    "Skipped",
    "insert",
    # by id
    "get",
    "get_async",
    "cancel",
    "cancel_async",
    "Job",
    "State",
    # by the clock
    "Schedules",
    "Fired",
    # handle jobs
    "Handlers",
    "LeasedJob",
    "AsyncLeasedJob",
    "Snooze",
    "Cancel",
    "Bury",
    # with a consumer of one's own
    "adopt",
    "adopt_async",
    "transition",
    "transition_async",
    "Result",
    "Applied",
    "AlreadyApplied",
    "Superseded",
    "Ahead",
    "Illegal",
    "Missing",
    # what goes wrong
    "OutboxError",
    "Misuse",
]

_LATER = {
    "adoption": ("adopt", "adopt_async"),
    "handlers": ("Handlers",),
    "job": ("Job",),
    "jobs": ("Added", "Skipped", "add", "add_all", "add_unique", "add_unique_async", "emit", "insert"),
    "known": ("cancel", "cancel_async", "get", "get_async"),
    "leased": ("AsyncLeasedJob", "LeasedJob"),
    "new": ("New",),
    "outcomes": ("Bury", "Cancel", "Snooze"),
    "schedules": ("Fired", "Schedules"),
    "transitions": (
        "Ahead",
        "AlreadyApplied",
        "Applied",
        "Illegal",
        "Missing",
        "Result",
        "Superseded",
        "transition",
        "transition_async",
    ),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: an application that only adds jobs does not pay for the consumer."""
    if name not in _HOME:
        raise AttributeError(f"module 'outbox' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"outbox.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
