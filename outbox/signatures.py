"""Judges functions that shall become handlers: what would be called and do nothing is refused at import."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from outbox.errors import Misuse

if TYPE_CHECKING:
    from collections.abc import Callable


def check(function: Callable[..., Any], parameters: tuple[str, ...], *, awaited: bool) -> None:
    """Refuse a function that cannot be a handler.

    Args:
        function: To be called with as many arguments as there are ``parameters``.
        parameters: What it gets, for the message.
        awaited: Whether the sessions of its registry are awaited.

    Raises:
        Misuse: It is a generator, takes other arguments, or does not await as the sessions do.
    """
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise Misuse(f"{name(function)} is a generator (it has a yield): to call it would do nothing")
    coroutine = _is(inspect.iscoroutinefunction, function)
    if coroutine and not awaited:
        raise Misuse(f"{name(function)} is async: give Handlers an async_sessionmaker")
    if awaited and not coroutine:
        raise Misuse(f"{name(function)} is not async, and Handlers has an async_sessionmaker")
    try:
        signature = inspect.signature(
            function, follow_wrapped=False
        )  # a decorator may add arguments of its own
    except ValueError:  # written in C
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        wanted = ", ".join(parameters)
        raise Misuse(f"{name(function)} is called as ({wanted}), which it does not take: {error}") from None


def name(function: Any) -> str:
    """Return what to call a function in a message."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether it is of a kind, itself or, an object that is no function, where it is called."""
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004
