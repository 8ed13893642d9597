"""Calls a handler inside the context managers that were asked for, awaited or not.

Whatever it answers that cannot mean that the work is done is a failure, and says why.
"""

from __future__ import annotations

import inspect
import os
import traceback
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from outbox.errors import Misuse
from outbox.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        with _one_process():
            answer = handler.function(job, *arguments)
        _raise_answer(answer)


def _call_awaited(handler: Handler, job: Job, *arguments: Any) -> None:
    await_only(_await(handler, job, *arguments))


async def _await(handler: Handler, job: Job, *arguments: Any) -> None:
    async with AsyncExitStack() as stack:
        for around in handler.around:
            await stack.enter_async_context(around(job))
        with _one_process():
            answer = await handler.function(job, *arguments)
        _raise_answer(answer)


def _raise_answer(answer: object) -> None:
    """Make one thing of the two ways to answer; what else a handler returns means nothing, or a mistake."""
    if isinstance(answer, Outcome):
        raise answer
    if isinstance(answer, BaseException) or (inspect.isclass(answer) and issubclass(answer, BaseException)):
        raise Misuse(f"the handler returned {answer!r}: raise it, or return outbox.Bury(reason) and the like")
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise Misuse(f"the handler returned a {type(answer).__name__} that nobody runs: nothing was done")


@contextmanager
def _one_process() -> Iterator[None]:
    """End a child that the handler forked where it leaves the handler: it would settle and consume too."""
    ours, code = os.getpid(), 0
    try:
        yield
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException:
        code = 1
        if os.getpid() != ours:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != ours:
            os._exit(code)
