"""Leases: a job that is ``running`` under a token, renewed while its handler works, fenced when it is done.

Whoever lost the lease can neither finish nor fail the job any more: every statement here compares version and
token. The relay ends leases that ran out; the database's clock alone says when.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import update
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from outbox.errors import Misuse, OutboxError
from outbox.job import Job
from outbox.joined import marked, refuse_ended
from outbox.models import job
from outbox.states import State
from outbox.transitions import Applied, Result, classify, due_in, guarded, moved_here

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession

    from outbox.joined import Sessions, Work

S = TypeVar("S", bound="Session | AsyncSession")
SyncS = TypeVar("SyncS", bound=Session)
AsyncS = TypeVar("AsyncS", bound="AsyncSession")

RENEWALS: Final = 3
"""How often a lease is renewed before it would end."""

_PROGRESS_EVERY: Final = 1.0
"""Seconds between two writes of progress: a handler that reports each row must not write each row."""

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseLost(OutboxError):
    """The job is not ours any more: its lease ran out, or somebody cancelled it. Nothing was written."""


class Lease(Generic[S]):
    """The hold on one running job.

    Args:
        sessions: Where the job lives.
        job_id: Of the job.
        version: Of its row since it is running.
        token: Only who knows it may renew, finish or fail the job.
        seconds: How long it lasts without renewal.
        attempt: Of the job, this one included.
        max_attempts: Of the job.
        created_at: Of the job.
    """

    state: Final = State.RUNNING

    def __init__(
        self,
        sessions: Sessions[S],
        job_id: UUID,
        version: int,
        token: UUID,
        seconds: float,
        *,
        attempt: int,
        max_attempts: int,
        created_at: datetime,
    ) -> None:
        self.sessions = sessions
        self.job_id = job_id
        self.version = version
        self.token = token
        self.seconds = seconds
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.created_at = created_at
        self.finished = False
        self.ended = State.SUCCEEDED
        self._lost = False
        self._progress: float | None = None
        self._asked = self._renewed = boottime()

    @property
    def lost(self) -> bool:
        """Whether the job is known not to be ours any more."""
        return self._lost and not self.finished

    @property
    def due(self) -> float:
        """When to renew it, on this machine's clock."""
        return self._asked + self.seconds / RENEWALS

    def renew(self) -> None:
        """Make it last ``seconds`` from now; writes the latest progress as well.

        Never raises for a database that is away: it is tried again, and given up for lost when it must have
        ended.
        """
        self._asked = asked = boottime()
        try:
            hit = self._renew()
        except Exception:  # noqa: BLE001 - any failure means the same: not renewed
            self._lost = self._lost or asked - self._renewed > self.seconds
            return
        if hit:
            self._renewed = asked
        else:
            self._lost = True

    def report(self, fraction: float) -> None:
        """Remember how far the work is, and write it unless that was done a moment ago.

        Raises:
            ValueError: It is not between 0 and 1.
            LeaseLost: The job is not ours any more.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is between 0 and 1, not {fraction!r}")
        self._progress = fraction
        if boottime() - self._renewed >= _PROGRESS_EVERY:
            self.renew()
        self.refuse_lost()

    def refuse_lost(self) -> None:
        """Raise ``LeaseLost`` if the job is known not to be ours any more."""
        if self.lost:
            raise LeaseLost(self._words())

    def last_writes(self) -> Work[S]:
        """Begin the transaction that completes the job.

        Raises:
            Misuse: It is finished already.
            LeaseLost: The job is not ours any more.
        """
        if self.finished:
            raise Misuse(
                f"job {self.job_id} is finished: job.finish() works once, with all last writes in it"
            )
        self.refuse_lost()
        work = self.sessions.begin_with_session()
        try:
            marked(work.connection, str(self.token))
        except BaseException:
            work.close()
            raise
        return work

    def complete(self, work: Work[S]) -> None:
        """Complete the job in a transaction that a handler wrote in, and commit both.

        Raises:
            LeaseLost: The job is not ours any more; nothing is committed.
        """
        work.flush()
        refuse_ended(work.connection, str(self.token))
        result = self.move(work.connection, State.SUCCEEDED, 0, {"error": None})
        if not isinstance(result, Applied):
            moved = moved_here(work.connection, self.job_id)  # by the handler, in this session
            if moved is None:
                self._lost = True
                raise LeaseLost(self._words())
            self.ended = moved[0]
        work.commit()
        self.finished = True

    def move(self, connection: Connection, to: State, charge: int, values: dict[str, Any]) -> Result:
        """Make the job's next transition, if it is still ours."""
        counted = {"attempt": job.c.attempt + charge} if charge else {}
        statement = guarded(self.job_id, self.version, to, {**counted, **values})
        if connection.execute(statement.where(job.c.lease_token == self.token)).rowcount:
            return Applied(self.version + 1)
        return classify(connection, self.job_id, self.version, to)

    def _words(self) -> str:
        return f"the lease of job {self.job_id} is lost: another attempt may be under way; stop"

    def _renew(self) -> bool:
        statement = (
            update(job)
            .where(
                job.c.id == self.job_id,
                job.c.version == self.version,
                job.c.state == State.RUNNING,
                job.c.lease_token == self.token,
            )
            .values(lease_until=due_in(self.seconds), progress=self._progress)
        )
        with self.sessions.begin() as work:
            hit = bool(work.connection.execute(statement).rowcount)
            work.commit()
        return hit


@dataclass(frozen=True, slots=True)
class _Leased(Job):
    """What both kinds of leased jobs have."""

    lease: Lease[Any] = field(kw_only=True, repr=False, compare=False)

    @property
    def lost(self) -> bool:
        """Whether the job is known not to be ours any more: stop, what you finish would not count."""
        return self.lease.lost


@dataclass(frozen=True, slots=True)
class LeasedJob(_Leased, Generic[SyncS]):
    """The job that a leased handler works on."""

    def progress(self, fraction: float) -> None:
        """Say how far the work is, between 0 and 1; also renews the lease.

        Raises:
            ValueError: It is not between 0 and 1.
            LeaseLost: The job is not ours any more.
        """
        self.lease.report(fraction)

    @contextmanager
    def finish(self) -> Iterator[SyncS]:
        """Complete the job together with what is written in the session that this gives, in one commit.

        Raises:
            LeaseLost: The job is not ours any more; what was written is rolled back.
            Misuse: It is finished already.
        """
        with self.lease.last_writes() as work:
            yield work.session
            self.lease.complete(work)


@dataclass(frozen=True, slots=True)
class AsyncLeasedJob(_Leased, Generic[AsyncS]):
    """The job that a leased handler works on, where handlers are awaited."""

    async def progress(self, fraction: float) -> None:
        """Say how far the work is, between 0 and 1; also renews the lease.

        Raises:
            ValueError: It is not between 0 and 1.
            LeaseLost: The job is not ours any more.
        """
        await greenlet_spawn(self.lease.report, fraction)

    @asynccontextmanager
    async def finish(self) -> AsyncIterator[AsyncS]:
        """Complete the job together with what is written in the session that this gives, in one commit.

        Raises:
            LeaseLost: The job is not ours any more; what was written is rolled back.
            Misuse: It is finished already.
        """
        work: Work[AsyncS] = await greenlet_spawn(self.lease.last_writes)
        try:
            yield work.session
            await greenlet_spawn(self.lease.complete, work)
        finally:
            await greenlet_spawn(work.close)


def boottime() -> float:
    """Seconds on a clock that also counts while the machine sleeps."""
    return time.clock_gettime(_BOOTTIME)
