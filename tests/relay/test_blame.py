"""Whom a refusal blames: whom the broker named, or who was alone on the way; nobody by guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from peer import Peer
from relays import Line, row
from senders import Sender, ids

from relay.publisher import BrokerGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.term import Term


def test_a_missing_exchange_is_blamed_on_its_own_messages(senders: Callable[..., Sender], look: Line) -> None:
    look.bind("all")
    sender = senders()
    rows = [row(exchange="missing" if n % 10 == 5 else None) for n in range(60)]
    with pytest.raises(BrokerGone, match="404 NOT_FOUND - no exchange 'missing'"):
        sender.ended(rows)
    outcomes = sender.window.take()
    assert {r.id for r, _ in outcomes.unroutable} == {r.id for r in rows if r.exchange}
    assert not outcomes.refused
    assert not sender.window.search


def test_a_forbidden_exchange_is_blamed_on_its_own_messages(
    senders: Callable[..., Sender], look: Line, inner: str
) -> None:
    look.bind("all")
    sender = senders()
    rows = [row(), row(exchange=inner), row()]
    with pytest.raises(BrokerGone, match="403 ACCESS_REFUSED"):
        sender.ended(rows)
    assert {r.id for r, _ in sender.window.take().unroutable} == {rows[1].id}


def test_a_message_that_ends_the_connection_alone_is_refused(
    senders: Callable[..., Sender], look: Line
) -> None:
    look.bind("all")
    sender = senders()
    poison = row(headers={"big": "x" * 200_000})
    with pytest.raises(BrokerGone, match="501 FRAME_ERROR"):
        sender.ended([poison])
    ((refused, reason),) = sender.window.take().refused
    assert refused.id == poison.id
    assert "frame_too_large" in reason


def test_among_many_it_is_looked_for_and_nobody_is_blamed(senders: Callable[..., Sender], look: Line) -> None:
    look.bind("all")
    sender = senders()
    rows = [row(), row(headers={"big": "x" * 200_000}), row()]
    with pytest.raises(BrokerGone) as caught:
        sender.ended(rows)
    assert not sender.window.take().refused
    assert caught.value.unknown == len(sender.window.search) >= 2


def test_what_no_message_can_hold_is_refused_and_the_others_go(
    senders: Callable[..., Sender], look: Line
) -> None:
    look.bind("all")
    sender = senders()
    rows = [row(), row(routing_key="r" * 300), row(), row(exchange="e" * 300), row()]
    assert sender.send(rows)
    outcomes = sender.settled(5)
    assert {r.id for r, _ in outcomes.refused} == {rows[1].id, rows[3].id}
    assert ids(outcomes.confirmed) == {rows[0].id, rows[2].id, rows[4].id}


def test_a_refused_message_ends_the_channel_for_good(term: Term) -> None:
    """py-amqp would open the same channel again, out of confirm mode, its tags from one."""
    with Peer() as peer:
        sender = Sender(peer.url, term)
        poison = row()
        sender.send([poison])
        peer.wait(1)
        peer.close_channel(406, "PRECONDITION_FAILED - message size 17 is larger than configured max size 16")
        with pytest.raises(BrokerGone, match="406 PRECONDITION_FAILED"):
            eventually(sender.publisher.settle)
    ((refused, _),) = sender.window.take().refused
    assert refused.id == poison.id
