"""A process that fires schedules, and whose clock is wrong. Run by ``test_schedules.py``.

    scheduler_app.py WAY SECONDS

WAY: ``session`` is what an application would write, ``relay`` the leader's chore without any election,
``peer`` what is found elsewhere: look when it ran last, and run it if that is long ago. SECONDS: how much its
clock is fast.
"""

from __future__ import annotations

import datetime as dt
import os
import select
import sys
from typing import TYPE_CHECKING

import psycopg
import wrong_clock
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Callable

way, shift = sys.argv[1], float(sys.argv[2])
dsn, url = os.environ["OUTBOX_DATABASE_URL"], os.environ["URL"]


wrong_clock.wear(lambda: shift)  # before ours are imported, and after the drivers are

import outbox  # noqa: E402
from relay.backend import Backend  # noqa: E402
from relay.scheduler import Scheduler  # noqa: E402

schedules = outbox.Schedules()
schedules.add("tick", "* * * * * *", "tick")
schedules.add("tock", "*/2 * * * * *", "tock", misfire="skip")


def session() -> Callable[[], object]:
    """Fire as an application would."""
    engine = create_engine(url)

    def look() -> None:
        with Session(engine) as opened, opened.begin():
            schedules.fire(opened)

    return look


def relay() -> Callable[[], object]:
    """Fire as the leader does."""
    return Scheduler(Backend(dsn), list(schedules), lambda event: None).run


def peer() -> Callable[[], object]:
    """Look when it ran last; if that is over, run it and write down that it ran."""
    connection = psycopg.connect(dsn, autocommit=True)

    def look() -> None:
        (last,) = connection.execute("SELECT last_run FROM public.peer").fetchone() or (None,)
        now = dt.datetime.now(dt.UTC)
        if (now - last).total_seconds() >= 1:
            connection.execute("UPDATE public.peer SET last_run = %s", (now,))
            connection.execute("INSERT INTO public.ran VALUES (%s)", (now.replace(microsecond=0),))

    return look


look = {"session": session, "relay": relay, "peer": peer}[way]()
look()
print("ready", flush=True)  # noqa: T201 - to the test
while not select.select([], [], [], 0.1)[0]:
    look()
