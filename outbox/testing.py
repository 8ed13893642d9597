"""For the test suites of applications: what was added, and its handlers, run here and now with no broker.

Everything happens in the session's own transaction on a real PostgreSQL, with the table's own guards; a test
that rolls back leaves nothing. Retries, leases that run out and deliveries are the consumer's, and are not
played here: a handler that raises raises in the test.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import greenlet_spawn

from outbox.errors import Misuse
from outbox.job import Job, job_of
from outbox.known import SHOWN, get
from outbox.leased import AsyncLeasedJob, LeasedJob
from outbox.models import JobRow
from outbox.outcomes import Bury, Cancel, Snooze
from outbox.runner.calling import caller
from outbox.sessions import refuse_unbound
from outbox.states import State
from outbox.transitions import transition

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from outbox.handlers import Handler, Handlers
    from outbox.runner.calling import Call

S = TypeVar("S", bound="Session | AsyncSession")

OUTCOMES = {Snooze: State.SCHEDULED, Cancel: State.CANCELLED, Bury: State.DEAD}


def added(session: Session | scoped_session[Any]) -> list[Job]:
    """Return the jobs and events that this transaction added, in the order in which it did.

    Args:
        session: The one that the code under test used, before its transaction ends. For an ``AsyncSession``:
            ``await session.run_sync(testing.added)``.

    Raises:
        Misuse: The session has no engine for us.
    """
    refuse_unbound(session)
    session.flush()
    ours = JobRow.xid == func.pg_current_xact_id()
    rows = session.execute(select(*SHOWN).where(ours).order_by(JobRow.pos))
    return [job_of(cast("JobRow", row)) for row in rows]


def run(handlers: Handlers[Session], session: Session) -> list[Job]:
    """Run what this transaction added and ``handlers`` takes, and what that adds in turn.

    Args:
        handlers: The registry that the consumer will have.
        session: The one in which the jobs were added; handlers get it too.

    Returns:
        The jobs that ran, as they are now: ``succeeded``, or what a handler's ``Snooze``, ``Cancel`` or
        ``Bury`` made of them.

    Raises:
        Exception: Whatever a handler raises; what it wrote is rolled back, and its job has not moved.
    """
    return _run(handlers, session, session, caller(awaited=False))


async def run_async(handlers: Handlers[AsyncSession], session: AsyncSession) -> list[Job]:
    """``run`` for handlers that are awaited."""
    call = caller(awaited=True)
    return cast("list[Job]", await greenlet_spawn(_run, handlers, session.sync_session, session, call))


def _run(handlers: Handlers[S], session: Session, given: S, call: Call) -> list[Job]:
    done: list[Job] = []
    while todo := [job for job in added(session) if job.state is State.PENDING and handlers.get(job.kind)]:
        for job in todo:
            handler = cast("Handler", handlers.get(job.kind))
            transition(session, job.id, job.version, _handle(handler, job, session, given, call))
            done.append(cast("Job", get(session, job.id)))
    return done


def _handle(handler: Handler, job: Job, session: Session, given: Any, call: Call) -> State:
    """Run one handler; return the state that its job reaches."""
    tried = replace(job, attempt=job.attempt + 1, payload=_payload(handler, job, session))
    try:
        with session.begin_nested():
            if handler.lease is None:
                call(handler, tried, given)
            else:
                call(handler, _leased(tried, given))
    except (Snooze, Cancel, Bury) as answer:
        return OUTCOMES[type(answer)]
    return State.SUCCEEDED


def _payload(handler: Handler, job: Job, session: Session) -> Any:
    if handler.parse is None:
        return job.payload
    body = session.scalars(select(JobRow.payload).where(JobRow.id == job.id)).one()
    return handler.parse(body, job.payload)


def _leased(job: Job, given: Any) -> Job:
    kind: Any = LeasedJob if isinstance(given, (Session, scoped_session)) else AsyncLeasedJob
    return cast("Job", kind(**{f.name: getattr(job, f.name) for f in fields(Job)}, lease=_Here(given)))


class _Here(Generic[S]):
    """Stands for a lease where there is nobody to lose it to: ``finish`` gives the test's own session."""

    lost = False

    def __init__(self, session: S) -> None:
        self.session = session
        self.finished = False

    def report(self, fraction: float) -> None:
        """Take a progress as the real one does."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is between 0 and 1, not {fraction!r}")

    def last_writes(self) -> _Here[S]:
        """Return what has the session, once."""
        if self.finished:
            raise Misuse("job.finish() works once, with all last writes in it")
        return self

    def complete(self, work: _Here[S]) -> None:
        """Do no more than to remember it: ``run`` completes the job."""
        work.finished = True

    def close(self) -> None:
        """Do nothing: the session is the test's."""

    def __enter__(self) -> _Here[S]:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the session to the test."""
