"""Publishing over AMQP: what the broker says of each message reaches that message, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from peer import Peer
from relays import NOBODY, Line, ids_of, line, nothing, row
from senders import Sender, ids

from outbox.errors import LeadershipLost, WrongEnvironment
from relay.publisher import AmqpPublisher, BrokerGone
from relay.routes import Routes
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.term import Term
    from relay.theatre.proxy import Proxy


def test_what_is_routed_is_confirmed_and_arrives_as_it_is(senders: Callable[..., Sender], look: Line) -> None:
    look.bind("all")
    sender = senders()
    sent = row(
        payload=b"\x00opaque", content_type="application/x", headers={"trace": "1"}, key="k", attempt=3
    )
    rows = [sent, *(row() for _ in range(499))]
    assert sender.send(rows)
    assert ids(sender.settled(500).confirmed) == ids(rows)
    taken = look.take("all")
    assert ids_of(taken) == [each.id for each in rows]
    first = taken[0]
    assert first.body == b"\x00opaque"
    assert first.properties["delivery_mode"] == 2
    assert first.properties["type"] == "a.b"
    assert first.properties["content_type"] == "application/x"
    assert first.properties["application_headers"] == {
        "trace": "1",
        "x-outbox-version": 1,
        "x-outbox-attempt": 3,
        "x-outbox-term": sender.term.number,
        "x-outbox-key": "k",
    }


def test_what_nothing_is_bound_for_is_unroutable_although_it_is_acked(
    senders: Callable[..., Sender], look: Line
) -> None:
    look.bind("known", "known.#")
    sender = senders()
    rows = [row(kind="known.x" if n % 3 else "other.x") for n in range(300)]
    sender.send(rows)
    outcomes = sender.settled(300)
    assert ids(outcomes.confirmed) == {r.id for r in rows if r.kind == "known.x"}
    assert {r.id for r, _ in outcomes.unroutable} == {r.id for r in rows if r.kind == "other.x"}
    assert "nothing is bound to exchange 'outbox' for 'other.x'" in outcomes.unroutable[0][1]


def test_a_queue_deleted_on_the_way_loses_nothing_that_is_confirmed(
    senders: Callable[..., Sender], look: Line
) -> None:
    look.bind("gone", "gone.#")
    look.bind("stays", "stays.#")
    sender = senders()
    confirmed, unroutable = 0, 0
    for round_ in range(20):
        if round_ == 10:
            look.channel.queue_delete("gone")
        sender.send([row(kind="gone.x" if n % 2 else "stays.x") for n in range(50)])
        outcomes = sender.settled(50)
        confirmed, unroutable = confirmed + len(outcomes.confirmed), unroutable + len(outcomes.unroutable)
    assert (confirmed, unroutable) == (750, 250)
    assert look.depth("stays") == 500


def test_what_a_full_queue_refuses_is_nacked(senders: Callable[..., Sender], look: Line) -> None:
    look.bind("full", max_length=3, overflow="reject-publish")
    sender = senders()
    rows = [row() for _ in range(20)]
    sender.send(rows)
    outcomes = sender.settled(20)
    assert len(outcomes.nacked) >= 10
    assert ids(outcomes.nacked).isdisjoint(ids_of(look.take("full")))
    assert ids(outcomes.confirmed) | ids(outcomes.nacked) == ids(rows)


def test_an_exchange_of_another_type_is_refused_and_named(senders: Callable[..., Sender], look: Line) -> None:
    look.channel.exchange_declare("other", "fanout", durable=True, auto_delete=False)
    with pytest.raises(WrongEnvironment, match="the exchange 'other' exists as another one"):
        senders(exchange="other")


def test_the_depth_of_a_queue_is_told_and_what_is_not_told_is_not_guessed(
    senders: Callable[..., Sender], look: Line, amqp_url: str
) -> None:
    look.bind("two")
    sender = senders()
    sender.send([row(), row()])
    sender.settled(2)
    for _ in range(3):
        assert sender.publisher.depth("two") == 2
        assert sender.publisher.depth("never") == 0
    with line(amqp_url) as owner:
        owner.channel.queue_declare("mine", exclusive=True, auto_delete=False)
        assert sender.publisher.depth("mine") is None
    sender.send([row()])
    assert len(sender.settled(1).confirmed) == 1


def test_a_cut_connection_leaves_what_flew_unknown(
    senders: Callable[..., Sender], look: Line, amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    sender = senders(between.url(amqp_url))
    between.stall_replies()
    rows = [row() for _ in range(10)]
    sender.send(rows)
    eventually(lambda: look.depth("all") == 10)
    sender.publisher.settle()
    assert sender.window.flying == 10
    between.cut()
    with pytest.raises(BrokerGone) as caught:
        eventually(sender.publisher.settle)
    assert caught.value.unknown == 10
    assert sender.window.suspects == {each.ident for each in rows}
    assert not sender.window.take()


def test_late_confirms_are_each_messages_own(
    senders: Callable[..., Sender], look: Line, amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    sender = senders(between.url(amqp_url))
    between.stall_replies()
    first, second = row(), row(kind="a.b")
    sender.send([first])
    sender.send([second])
    between.resume()
    assert ids(sender.settled(2).confirmed) == {first.id, second.id}


def test_without_trust_nothing_is_written(senders: Callable[..., Sender], look: Line, term: Term) -> None:
    look.bind("all")
    sender = senders()
    term._deadline = term._beaten = 0.0
    term._heartbeat = 10**9  # no beat mends it meanwhile
    with pytest.raises(LeadershipLost):
        sender.send([row()])
    with pytest.raises(LeadershipLost):
        sender.publisher.probe(row(), term, duplicate=False)
    sender.publisher.settle()
    assert look.depth("all") == 0


def test_a_broker_that_is_not_there_is_gone() -> None:
    publisher = AmqpPublisher(NOBODY, Routes("outbox", ()), Window(1, 1))
    with pytest.raises(BrokerGone, match="Connection refused"):
        publisher.connect(nothing)


def test_acks_in_any_order_confirm_their_own_messages(term: Term) -> None:
    with Peer() as peer:
        sender = Sender(peer.url, term)
        rows = [row() for _ in range(6)]
        sender.send(rows)
        peer.wait(6)
        peer.ack(5)
        peer.nack(2)
        peer.ack(4, multiple=True)
        peer.nack(6)
        outcomes = sender.settled(6)
        sender.publisher.drop()
    assert ids(outcomes.confirmed) == {rows[n].id for n in (0, 2, 3, 4)}
    assert ids(outcomes.nacked) == {rows[1].id, rows[5].id}


def test_a_late_ack_of_the_first_says_nothing_of_the_second(term: Term) -> None:
    with Peer() as peer:
        sender = Sender(peer.url, term)
        first, second = row(), row()
        sender.send([first])
        sender.send([second])
        peer.wait(2)
        peer.ack(1)
        eventually(lambda: sender.publisher.settle() or sender.window.unmarked())
        assert ids(sender.window.unmarked()) == {first.id}
        peer.nack(2)
        assert ids(sender.settled(2).nacked) == {second.id}
        sender.publisher.drop()
