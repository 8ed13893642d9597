"""Calls a handler inside the context managers that were asked for, awaited or not."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from outbox.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.handlers import Handler
    from outbox.job import Job

    Call = Callable[..., None]
    """``call(handler, job, *arguments)``"""


def caller(*, awaited: bool) -> Call:
    """Return what calls handlers.

    Args:
        awaited: Whether they are coroutine functions. Then the caller must itself have been called through
            SQLAlchemy's ``greenlet_spawn``, on the event loop.
    """
    return _call_awaited if awaited else _call


def _call(handler: Handler, job: Job, *arguments: Any) -> None:
    with ExitStack() as stack:
        for around in handler.around:
            stack.enter_context(around(job))
        _raise_answer(handler.function(job, *arguments))


def _call_awaited(handler: Handler, job: Job, *arguments: Any) -> None:
    await_only(_await(handler, job, *arguments))


async def _await(handler: Handler, job: Job, *arguments: Any) -> None:
    async with AsyncExitStack() as stack:
        for around in handler.around:
            await stack.enter_async_context(around(job))
        _raise_answer(await handler.function(job, *arguments))


def _raise_answer(answer: object) -> None:
    """Make one thing of the two ways to answer; whatever else a handler returns means nothing."""
    if isinstance(answer, Outcome):
        raise answer
