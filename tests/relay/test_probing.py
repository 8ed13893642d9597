"""A probe goes on a channel of its own: whatever becomes of it, what else is in flight does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from relays import Line, nothing, row

from relay.publisher import AmqpPublisher
from relay.routes import Routes
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.term import Term


@pytest.fixture
def window() -> Window:
    return Window(1000, 8_000_000)


@pytest.fixture
def publisher(amqp_url: str, window: Window) -> Iterator[AmqpPublisher]:
    made = AmqpPublisher(amqp_url, Routes("outbox", ()), window)
    made.connect(nothing)
    yield made
    made.drop()


def landed(publisher: AmqpPublisher, window: Window) -> None:
    eventually(lambda: publisher.settle() or window.flying == 0)


def test_a_probe_that_gets_through_is_confirmed(
    publisher: AmqpPublisher, window: Window, term: Term, look: Line
) -> None:
    look.bind("all")
    probe = row()
    publisher.probe(probe, term, duplicate=False)
    landed(publisher, window)
    assert [r.id for r in window.take().confirmed] == [probe.id]
    assert look.depth("all") == 1


@pytest.mark.parametrize(
    "refused",
    [
        ({"kind": "nobody.x"}, "nothing is bound"),
        ({"exchange": "missing"}, "404 NOT_FOUND"),
        ({"exchange": "inner"}, "403 ACCESS_REFUSED"),
    ],
)
@pytest.mark.usefixtures("inner")
def test_a_probe_that_does_not_costs_nobody_anything(
    publisher: AmqpPublisher,
    window: Window,
    term: Term,
    look: Line,
    refused: tuple[dict[str, str], str],
) -> None:
    columns, words = refused
    look.bind("all", "a.#")
    others = [row() for _ in range(200)]
    publisher.send(others[:100], term, lambda _: False)
    publisher.probe(row(**columns), term, duplicate=False)
    publisher.send(others[100:], term, lambda _: False)
    landed(publisher, window)
    outcomes = window.take()
    ((_, reason),) = outcomes.unroutable
    assert words in reason
    assert {r.id for r in outcomes.confirmed} == {r.id for r in others}


def test_a_nacked_probe_is_told(publisher: AmqpPublisher, window: Window, term: Term, look: Line) -> None:
    look.bind("full", max_length=0, overflow="reject-publish")
    publisher.probe(row(), term, duplicate=False)
    landed(publisher, window)
    assert len(window.take().nacked) == 1


def test_a_probe_that_no_message_can_hold_is_refused(
    publisher: AmqpPublisher, window: Window, term: Term, look: Line
) -> None:
    publisher.probe(row(routing_key="r" * 300), term, duplicate=False)
    assert len(window.take().refused) == 1
    publisher.probe(row(), term, duplicate=False)
    landed(publisher, window)


def test_channels_are_closed_on_both_sides(
    publisher: AmqpPublisher, window: Window, term: Term, look: Line
) -> None:
    look.bind("all")
    for n in range(300):
        publisher.probe(row(exchange="missing" if n % 3 else None), term, duplicate=False)
        landed(publisher, window)
        assert publisher.depth("all") is not None
    eventually(
        lambda: publisher.settle() or len(publisher._connection.channels) == 2
    )  # itself, and the shared one
