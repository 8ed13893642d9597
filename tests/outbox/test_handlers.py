"""What may be registered, and what is refused at import."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from outbox import Handlers, Misuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from outbox import Job


def nothing(_job: Job, _session: Any) -> None: ...


def leased(_job: Job) -> None: ...


async def awaited(_job: Job, _session: Any) -> None: ...


@pytest.fixture
def handlers() -> Handlers[Any]:
    return Handlers("receipts", session=sessionmaker())


def test_the_function_stays_what_it_was(handlers: Handlers[Any]) -> None:
    assert handlers("a")(nothing) is nothing
    assert handlers.leased("b")(leased) is leased
    assert handlers.kinds == ("a", "b")


def test_one_function_may_handle_many_kinds(handlers: Handlers[Any]) -> None:
    handlers("a")(handlers("b")(nothing))
    assert [handler.function for handler in handlers] == [nothing, nothing]


def test_a_kind_has_one_handler_and_both_are_named(handlers: Handlers[Any]) -> None:
    handlers("a")(nothing)
    with pytest.raises(Misuse, match=r"a has two handlers: .*nothing and .*leased"):
        handlers.leased("a")(leased)


def test_include_takes_everything_over(handlers: Handlers[Any]) -> None:
    other = Handlers("other", session=sessionmaker(), lifespan=lambda: None)  # type: ignore[arg-type, return-value]
    other("a", max_attempts=3, event=True)(nothing)
    other.leased("b", seconds=5)(leased)
    handlers.include(other)
    assert handlers.kinds == ("a", "b")
    a, b = handlers.get("a"), handlers.get("b")
    assert a is not None
    assert b is not None
    assert (a.max_attempts, a.event, a.lease, b.lease) == (3, True, None, 5.0)
    assert len(handlers.lifespans) == 1


def test_include_refuses_a_kind_that_is_taken(handlers: Handlers[Any]) -> None:
    other = Handlers("other", session=sessionmaker())
    other("a")(nothing)
    handlers("a")(nothing)
    with pytest.raises(Misuse, match="two handlers"):
        handlers.include(other)


class Called:
    """An object that is called, and awaited."""

    async def __call__(self, _job: Job, _session: Any) -> None: ...


@pytest.mark.parametrize("function", [awaited, Called(), functools.partial(awaited)])
def test_an_async_function_needs_async_sessions(handlers: Handlers[Any], function: Any) -> None:
    with pytest.raises(Misuse, match="async_sessionmaker"):
        handlers("a")(function)
    Handlers("x", session=async_sessionmaker())("a")(function)


def generated(_job: Job, _session: Any) -> Iterator[None]:
    yield


async def generated_awaited(_job: Job, _session: Any) -> AsyncIterator[None]:
    yield


class Generated:
    """An object that is called, and is a generator."""

    def __call__(self, _job: Job, _session: Any) -> Iterator[None]:
        yield


@pytest.mark.parametrize("function", [generated, Generated(), functools.partial(generated)])
def test_a_generator_would_do_nothing(handlers: Handlers[Any], function: Any) -> None:
    with pytest.raises(Misuse, match="generator"):
        handlers("a")(function)
    with pytest.raises(Misuse, match="generator"):
        Handlers("x", session=async_sessionmaker())("a")(generated_awaited)  # type: ignore[arg-type]


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments, "more")

    return call


def test_a_handler_takes_the_arguments_of_its_mode(handlers: Handlers[Any]) -> None:
    refused: list[Any] = [lambda: None, lambda _job: None, lambda _job, _session, _more: None]
    for function in refused:
        with pytest.raises(Misuse, match=r"called as \(job, session\)"):
            handlers("a")(function)
    with pytest.raises(Misuse, match=r"called as \(job\)"):
        handlers.leased("a")(nothing)  # type: ignore[arg-type]
    handlers("a")(lambda _job, _session, _more=1: None)
    handlers("b")(wrapped(lambda _job, _session, _more: None))
    handlers("c")(print)


@pytest.mark.parametrize("kind", ["", "a*", "a.#", "a\nb", "x" * 256])
def test_a_kind_must_be_routable(handlers: Handlers[Any], kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        handlers(kind)


def test_numbers_must_make_sense(handlers: Handlers[Any]) -> None:
    with pytest.raises(ValueError, match="max_attempts"):
        handlers("a", max_attempts=0)
    with pytest.raises(ValueError, match="lease"):
        handlers.leased("a", seconds=0)


def test_a_session_that_cannot_be_joined_is_refused(handlers: Handlers[Any]) -> None:
    assert handlers.get("a") is None
    assert handlers.get(None) is None
