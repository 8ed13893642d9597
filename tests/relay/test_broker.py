"""The line to the broker: connecting with a back-off, losing it, pausing, and no step that takes long."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from peer import Peer
from relays import NOBODY, Line, nothing, row

from outbox import events
from outbox.errors import LeadershipLost, WrongEnvironment
from relay import broker as module
from relay import window as window_module
from relay.broker import FIRST_WAIT, LONGEST_WAIT, Broker
from relay.routes import Routes
from relay.window import FIRST_TIMEOUT, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outbox.events import Event
    from relay.sandbox import RabbitMQ
    from relay.term import Term
    from relay.theatre.proxy import Proxy


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def lines(seen: list[Event]) -> Iterator[Callable[..., Broker]]:
    """Make brokers' lines; drop them at the end."""
    made: list[Broker] = []

    def make(url: str, exchange: str = "outbox") -> Broker:
        made.append(Broker(url, Routes(exchange, ()), Window(1000, 8_000_000), seen.append))
        return made[-1]

    yield make
    for each in made:
        each.drop()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand."""
    seconds = [1000.0]
    for each in (module, window_module):
        monkeypatch.setattr(each, "clock", lambda: seconds[0])
    return seconds


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def of(seen: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in seen if isinstance(event, kind)]


def test_it_connects_once_and_stays(lines: Callable[..., Broker], amqp_url: str, seen: list[Event]) -> None:
    broker = lines(amqp_url)
    assert not broker.live
    for _ in range(5):
        broker.tend(nothing)
    assert broker.live
    assert broker.able
    assert broker.down_for == 0
    assert broker.next_try == float("inf")
    (connected,) = seen
    assert isinstance(connected, events.BrokerConnected)
    assert ":***@" in connected.broker


def test_it_backs_off_with_jitter_up_to_a_bound(
    lines: Callable[..., Broker], seen: list[Event], now: list[float]
) -> None:
    broker = lines(NOBODY)
    waits = []
    for _ in range(12):
        broker.tend(nothing)
        broker.tend(nothing)  # too early: no second attempt
        waits.append(broker.next_try)
        now[0] += broker.next_try
    assert len(of(seen, events.BrokerLost)) == 12
    assert waits[0] <= FIRST_WAIT * 1.25
    assert waits == pytest.approx([min(LONGEST_WAIT, FIRST_WAIT * 2**n) for n in range(12)], rel=0.26)
    assert broker.down_for == pytest.approx(sum(waits), abs=0.1)
    assert len(set(waits[-4:])) > 1


def test_the_next_address_is_tried_in_turn(
    lines: Callable[..., Broker], amqp_url: str, now: list[float]
) -> None:
    broker = lines(f"{NOBODY};{amqp_url}")
    broker.tend(nothing)
    assert not broker.live
    now[0] += 1
    broker.tend(nothing)
    assert broker.live


def test_a_loss_is_told_with_what_is_unknown_and_counted(
    lines: Callable[..., Broker], seen: list[Event], term: Term
) -> None:
    with Peer() as peer:
        broker = lines(peer.url)
        broker.tend(nothing)
        assert broker.send([row(), row()], term, lambda _: False)
        peer.wait(2)
    eventually(lambda: broker.tend(nothing) or not broker.live)
    (lost,) = of(seen, events.BrokerLost)
    assert isinstance(lost, events.BrokerLost)
    assert lost.unknown == 2
    assert broker.losses == 1
    assert not broker.send([row()], term, lambda _: False)
    assert not broker.probe(row(), term, duplicate=False)
    assert broker.depth("all") is None


def test_a_message_that_is_never_confirmed_halves_the_window(
    lines: Callable[..., Broker], seen: list[Event], term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Peer() as peer:
        broker = lines(peer.url)
        broker.tend(nothing)
        broker.send([row()], term, lambda _: False)
        broker.tend(nothing)
        assert broker.live
        later = window_module.clock() + FIRST_TIMEOUT + 1
        monkeypatch.setattr(window_module, "clock", lambda: later)
        broker.tend(nothing)
        assert not broker.live
        broker.drop()
    (lost,) = of(seen, events.BrokerLost)
    assert isinstance(lost, events.BrokerLost)
    assert lost.reason == "no confirm for 10 s"
    assert lost.unknown == 1
    assert (broker.window.limit, broker.window.timeout) == (500, 2 * FIRST_TIMEOUT)


def test_a_pause_that_the_broker_asks_for_is_kept_and_not_counted(
    lines: Callable[..., Broker],
    amqp_url: str,
    seen: list[Event],
    term: Term,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = lines(amqp_url)
    broker.tend(nothing)
    assert broker.publisher is not None
    broker.window.fly(99, row())
    broker.publisher.blocked = "memory alarm"
    broker.tend(nothing)
    assert not broker.able
    assert broker.live
    assert not broker.send([row()], term, lambda _: False)
    assert not broker.probe(row(), term, duplicate=False)
    later = window_module.clock() + 3600
    monkeypatch.setattr(window_module, "clock", lambda: later)
    broker.tend(nothing)
    broker.publisher.blocked = None
    broker.tend(nothing)
    assert broker.able
    assert broker.live, "the pause made nothing overdue"
    assert [type(event) for event in seen[1:]] == [events.BrokerBlocked, events.BrokerUnblocked]


def test_a_refusal_that_ends_the_relay_leaves_no_socket_open(
    lines: Callable[..., Broker], amqp_url: str, look: Line
) -> None:
    look.channel.exchange_declare("other", "fanout", durable=True, auto_delete=False)
    before = open_files()
    with pytest.raises(WrongEnvironment):
        lines(amqp_url, "other").tend(nothing)
    assert open_files() <= before


def test_a_heartbeat_that_is_lost_while_connecting_leaves_no_socket_open(
    lines: Callable[..., Broker], amqp_url: str
) -> None:
    def lost() -> None:
        raise LeadershipLost("another term has begun")

    before = open_files()
    with pytest.raises(LeadershipLost):
        lines(amqp_url).tend(lost)
    assert open_files() <= before


def test_two_hundred_reconnects_leave_nothing_open(lines: Callable[..., Broker], amqp_url: str) -> None:
    broker = lines(amqp_url)
    broker.tend(nothing)
    before = open_files()
    for _ in range(200):
        broker.drop()
        broker.tend(nothing)
        assert broker.live
    assert open_files() <= before


def test_refused_logins_leave_nothing_open(
    lines: Callable[..., Broker], amqp_url: str, seen: list[Event], now: list[float]
) -> None:
    user, at, rest = amqp_url.rpartition("@")
    broker = lines(f"{user}wrong{at}{rest}")
    before = open_files()
    for _ in range(3):
        broker.tend(nothing)
        now[0] += 60
    assert open_files() <= before
    assert all("ACCESS_REFUSED" in str(event) for event in of(seen, events.BrokerLost))


@pytest.mark.parametrize("known", [False, True])
def test_no_step_waits_long_for_a_frozen_broker(
    lines: Callable[..., Broker], own_amqp_url: str, own_rabbitmq: RabbitMQ, term: Term, *, known: bool
) -> None:
    broker = lines(own_amqp_url)
    if known:
        broker.tend(nothing)
    own_rabbitmq.pause()
    began = time.monotonic()
    if known:
        assert broker.depth("any") is None
    else:
        broker.tend(nothing)
    assert time.monotonic() - began < 2.0
    assert not broker.live
    began = time.monotonic()
    broker.drop()
    assert time.monotonic() - began < 0.2


def test_a_broker_that_reads_nothing_for_a_while_is_waited_for(
    lines: Callable[..., Broker], own_amqp_url: str, own_rabbitmq: RabbitMQ, term: Term
) -> None:
    """As RabbitMQ's flow control does: py-amqp's TCP_USER_TIMEOUT ends such a connection after a second."""
    broker, rows = lines(own_amqp_url), [row(payload=b"." * 1000) for _ in range(400)]
    broker.tend(nothing)
    own_rabbitmq.pause()
    assert broker.send(rows, term, lambda _: False)
    until = time.monotonic() + 4
    eventually(lambda: time.monotonic() > until or broker.tend(nothing) or not broker.live)
    assert broker.live, broker.reason
    own_rabbitmq.resume()
    eventually(lambda: broker.tend(nothing) or not broker.window.flying, 20)


def test_the_heartbeat_goes_on_between_the_steps_of_connecting(
    lines: Callable[..., Broker], amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(amqp_url)
    between.delay(0.2)
    broker = lines(between.url(amqp_url))
    beats: list[float] = [time.monotonic()]
    broker.tend(lambda: beats.append(time.monotonic()))
    assert broker.live
    assert max(later - earlier for earlier, later in itertools.pairwise(beats)) < 2.5
    assert len(beats) >= 4
