"""The registry: which function handles which kind, how, and with whose sessions.

Knows no broker and runs nothing: ``runner`` runs handlers, ``consumer`` feeds it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from sqlalchemy.orm import Session

from outbox import signatures
from outbox.backoff import Backoff
from outbox.errors import Misuse
from outbox.model import Parser, parser
from outbox.names import check_kind, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import TypedDict, Unpack

    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
    from sqlalchemy.orm import sessionmaker

    from outbox.job import Job
    from outbox.leased import AsyncLeasedJob, LeasedJob

    class Options(TypedDict, total=False):
        """What both ways to register take; told in ``Handlers.__call__``."""

        model: Any
        event: bool
        max_attempts: int | None
        backoff: Backoff
        permanent: tuple[type[BaseException], ...]


S = TypeVar("S", bound="Session | AsyncSession")
SyncS = TypeVar("SyncS", bound=Session)
AsyncS = TypeVar("AsyncS", bound="AsyncSession")
R = TypeVar("R")

LEASE: Final = 60.0
"""Seconds that a lease lasts by default; it is renewed three times as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One function and all that was said of it."""

    kind: str
    function: Callable[..., Any]
    lease: float | None
    """Seconds; None: the handler works in our transaction."""
    event: bool
    parse: Parser | None
    max_attempts: int | None
    backoff: Backoff
    permanent: tuple[type[BaseException], ...]
    around: tuple[Callable[[Job], Any], ...]
    """Context managers to run it in, outermost first."""


class Handlers(Generic[S]):
    """The handlers of one queue.

    ::

        handlers = outbox.Handlers("receipts", session=SessionLocal)

        @handlers("order.paid")
        def send_receipt(job, session):
            session.add(Receipt(order_id=job.payload["order_id"]))

    Args:
        name: The queue, bound to the kinds of all handlers. One queue has one registry; as many processes as
            you like may consume it.
        session: The application's own ``sessionmaker`` or ``async_sessionmaker``. With the latter all
            handlers are coroutine functions, on one event loop.
        around: Gives a context manager for each job, entered before its handler: logging, tracing, tenants.
        lifespan: Gives a context manager that is entered when the consumer starts and left when it has
            stopped.

    Raises:
        TypeError, ValueError: ``name`` cannot be the name of a queue.
    """

    @overload
    def __init__(
        self: Handlers[SyncS],
        name: str,
        *,
        session: sessionmaker[SyncS],
        around: Callable[[Job], AbstractContextManager[Any]] | None = None,
        lifespan: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Handlers[AsyncS],
        name: str,
        *,
        session: async_sessionmaker[AsyncS],
        around: Callable[[Job], AbstractAsyncContextManager[Any]] | None = None,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        session: Any,
        around: Callable[[Job], Any] | None = None,
        lifespan: Callable[[], Any] | None = None,
    ) -> None:
        self.name = check_name(name, "name")
        self.session: Callable[..., S] = session
        self.awaited = _awaits(session)
        """Whether handlers are coroutine functions."""
        self.lifespans: list[Callable[[], Any]] = [lifespan] if lifespan else []
        self._around = (around,) if around else ()
        self._handlers: dict[str, Handler] = {}

    def __call__(
        self,
        kind: str,
        *,
        model: Any = None,
        event: bool = False,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        permanent: tuple[type[BaseException], ...] = (),
    ) -> Callable[[Callable[[Job, S], R]], Callable[[Job, S], R]]:
        """Register a function ``(job, session)`` whose writes commit together with the job's completion.

        A crash rolls both back and the broker delivers again at once: effects in the database happen once.
        The function may return or raise ``Snooze``, ``Cancel`` or ``Bury``; whatever else it raises is a
        failure, tried again after the back-off until the attempts are used up, and then dead. It need not
        commit; it must not roll back: ``session.begin_nested()`` makes a savepoint for what may fail.

        Args:
            kind: Of the jobs.
            model: A model of pydantic, a Struct of msgspec or a dataclass that ``job.payload`` is parsed
                into. A payload that does not fit is buried.
            event: Say so if the kind is news that was sent with ``emit``, which any number of queues may
                take. A kind of job has one taker: a second queue that asks for it is refused.
            max_attempts: After so many failures the job is dead. A job from ``add`` has its own limit as
                well, and the lower one holds; an event has 20. A process that goes away with it is a
                failure too, but the first time: it may have held other, healthy jobs.
            backoff: How long to wait after a failure: 2 s, doubled each time up to 1 h, with full jitter.
            permanent: Exceptions that no retry would mend: the job is dead at once.

        Raises:
            Misuse: The kind has a handler already; the function takes other arguments, is a generator, or
                does not await as the sessions do.
            TypeError, ValueError: ``kind`` or ``model`` cannot be one.
        """
        return self._register(
            kind,
            None,
            model=model,
            event=event,
            max_attempts=max_attempts,
            backoff=backoff or Backoff(),
            permanent=permanent,
        )

    @overload
    def leased(
        self: Handlers[SyncS], kind: str, *, seconds: float = LEASE, **options: Unpack[Options]
    ) -> Callable[[Callable[[LeasedJob[SyncS]], R]], Callable[[LeasedJob[SyncS]], R]]: ...

    @overload
    def leased(
        self: Handlers[AsyncS], kind: str, *, seconds: float = LEASE, **options: Unpack[Options]
    ) -> Callable[[Callable[[AsyncLeasedJob[AsyncS]], R]], Callable[[AsyncLeasedJob[AsyncS]], R]]: ...

    def leased(self, kind: str, *, seconds: float = LEASE, **options: Unpack[Options]) -> Any:
        """Register a function ``(job)`` for long work, and for effects outside the database.

        The job is ``running`` before the function is called, under a lease that is renewed while it works and
        that the relay ends for it when the process is gone. No transaction is open meanwhile.
        ``job.progress(0.4)`` says how far it is; ``with job.finish() as session:`` commits completion and
        last writes together. Give ``job.idempotency_key`` to whoever does the effect, since it may be asked
        twice.

        Args:
            kind: Of the jobs.
            seconds: How long the lease lasts without renewal, 1 or more.
            options: ``model, event, max_attempts, backoff, permanent`` as for transactional handlers.

        Raises:
            Misuse: The kind has a handler already; the function takes other arguments, is a generator, or
                does not await as the sessions do.
            TypeError, ValueError: ``kind``, ``model`` or ``seconds`` cannot be one.
        """
        if not 1 <= seconds <= 86_400:  # noqa: PLR2004 - a second to a day
            raise ValueError(f"a lease lasts 1 s to a day, not {seconds!r}")
        return self._register(kind, float(seconds), **options)

    def include(self, other: Handlers[S]) -> None:
        """Take over the handlers of another registry, as they are now; they run with this one's sessions.

        What was given as ``around`` to the other runs inside of what was given to this one.

        Raises:
            Misuse: A kind has a handler in both, or only one of the two awaits.
        """
        if other.awaited is not self.awaited:
            raise Misuse(f"handlers of {other.name!r} and of {self.name!r} must both await, or neither")
        for handler in other:
            self._put(replace(handler, around=(*self._around, *handler.around)))
        self.lifespans += other.lifespans

    def get(self, kind: str | None) -> Handler | None:
        """Return the handler of a kind."""
        return self._handlers.get(kind or "")

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds, sorted."""
        return tuple(sorted(self._handlers))

    def _register(
        self,
        kind: str,
        lease: float | None,
        *,
        model: Any = None,
        event: bool = False,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        permanent: tuple[type[BaseException], ...] = (),
    ) -> Callable[[Any], Any]:
        check_kind(kind)
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"max_attempts is 1 or more, not {max_attempts!r}")
        parse = None if model is None else parser(model)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            signatures.check(
                function, ("job", "session") if lease is None else ("job",), awaited=self.awaited
            )
            handler = Handler(
                kind=kind,
                function=function,
                lease=lease,
                event=event,
                parse=parse,
                max_attempts=max_attempts,
                backoff=backoff or Backoff(),
                permanent=permanent,
                around=self._around,
            )
            self._put(handler)
            return function

        return register

    def _put(self, handler: Handler) -> None:
        known = self._handlers.setdefault(handler.kind, handler)
        if known is not handler:
            both = f"{signatures.name(known.function)} and {signatures.name(handler.function)}"
            raise Misuse(f"{handler.kind} has two handlers: {both}")


def _awaits(factory: object) -> bool:
    """Whether it makes sessions that are awaited. Not imported here: without greenlet it cannot be."""
    loaded = sys.modules.get("sqlalchemy.ext.asyncio")
    return loaded is not None and isinstance(factory, loaded.async_sessionmaker)
