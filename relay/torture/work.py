"""The torture's handlers, for ``outbox consume relay.torture.work:handlers``: one effect a job, and mishaps.

Each job that a handler is given is noted in a file, whatever becomes of it. No constraint keeps a second
effect away: that is the version check's work.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import outbox
from outbox.backoff import Backoff
from relay import urls
from relay.theatre.journal import Journal
from relay.torture.writer import ATTEMPTS, NEWS, QUICK, SLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASE: Final = 2.0
LONGEST: Final = 0.5
"""Seconds that a leased handler works at most."""
FAILING: Final = 0.05
SOON: Final = Backoff(base=0.2, cap=2.0)


class Base(DeclarativeBase):
    """The application's own tables: ours are none of its business."""


class Effect(Base):
    """What a handler does, once."""

    __tablename__ = "torture_effect"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str]


class Mishap(Exception):
    """A handler's failure, as they happen to everybody."""


def handlers_of(name: str, database_url: str, folder: Path) -> outbox.Handlers[Session]:
    """Return the registry.

    Args:
        name: the queue.
        database_url: where jobs and effects are.
        folder: for the journal.
    """
    engine = create_engine(urls.sqlalchemy(database_url), pool_size=20, pool_pre_ping=True)
    journal = Journal(folder / f"handled-{os.getpid()}")

    @contextmanager
    def noted(job: outbox.Job) -> Iterator[None]:
        journal.note(job.payload["token"])
        yield

    made = outbox.Handlers(name, session=sessionmaker(engine), around=noted)
    made(QUICK, max_attempts=ATTEMPTS, backoff=SOON)(act)
    made(NEWS, event=True, max_attempts=ATTEMPTS, backoff=SOON)(act)
    made.leased(SLOW, seconds=LEASE, max_attempts=ATTEMPTS, backoff=SOON)(labour)
    return made


def act(job: outbox.Job, session: Session) -> None:
    """Write the effect; it commits with the job's own transition."""
    session.add(Effect(token=job.payload["token"]))
    session.flush()
    stumble()


def labour(job: outbox.LeasedJob[Session]) -> None:
    """Work for a while under a lease, then write the effect."""
    time.sleep(random.uniform(0, LONGEST))  # noqa: S311 - nothing secret
    stumble()
    with job.finish() as session:
        session.add(Effect(token=job.payload["token"]))


def stumble() -> None:
    """Fail now and then."""
    if random.random() < FAILING:  # noqa: S311 - nothing secret
        raise Mishap("as now and then")


if "TORTURE_NAME" in os.environ:
    handlers = handlers_of(
        os.environ["TORTURE_NAME"], os.environ["OUTBOX_DATABASE_URL"], Path(os.environ["TORTURE_FOLDER"])
    )
