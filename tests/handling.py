"""What handlers do in tests of the consuming side, and the table that tells how often they did it."""

from __future__ import annotations

import threading
import uuid  # noqa: TC003 - SQLAlchemy reads the annotation
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.job import Job


class Base(DeclarativeBase):
    """The application's own tables."""


class Effect(Base):
    """What a handler wrote: how often is what a test wants to know."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID]
    note: Mapped[str] = mapped_column(default="")


def write(job: Job, session: Session) -> None:
    """Handle a job: write its effect."""
    session.add(Effect(job_id=job.id))


def fail(_job: Job, _session: Session) -> None:
    """Fail to handle a job."""
    raise RuntimeError("no")


def fault(state: str) -> Callable[[Job, Session], None]:
    """Return a handler that meets an error of the database."""

    def handle(_job: Job, session: Session) -> None:
        session.execute(text(f"DO $$ BEGIN RAISE 'fault' USING ERRCODE = '{state}'; END $$"))

    return handle


class Gatekeeper:
    """A handler that waits to be let on."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.on = threading.Event()
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __call__(self, job: Job, session: Session) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.inside.release()
        assert self.on.wait(20)
        write(job, session)
        with self._lock:
            self.now -= 1


class Held:
    """A handler that holds the job of one payload until it is let on."""

    def __init__(self, payload: object) -> None:
        self.inside, self.on = threading.Event(), threading.Event()
        self._payload = payload
        self.then: Callable[[], None] = lambda: None

    def __call__(self, job: Job, session: Session) -> None:
        if job.payload == self._payload and not self.inside.is_set():
            self.inside.set()
            assert self.on.wait(60)
            self.then()
        write(job, session)
