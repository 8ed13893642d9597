"""A quorum queue without a leader takes messages and confirms none: the others must not pay for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import relays
from faults.collector import Collector
from faults.load import KIND, backlog
from helpers import eventually

from outbox import events
from relay.theatre.judge import judge

if TYPE_CHECKING:
    from databases import Database
    from faults.figures import Figures
    from servers import Broker

WINDOW = 500
HEALTHY = "healthy.kind"
_SERVER = '{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{host}">>, queue, <<"{queue}">>)), {verb}.'


class Member:
    """The only member of a quorum queue: while it stands still, nothing is confirmed, as without a majority.

    Args:
        broker: whose it is.
        url: of the virtual host.
        queue: the queue.
    """

    def __init__(self, broker: Broker, url: str, queue: str) -> None:
        self._broker, self._names = broker, {"host": urlsplit(url).path[1:], "queue": queue}

    def stop(self) -> None:
        """Have it stand still."""
        self._broker.ctl("eval", _SERVER.format(verb="sys:suspend(amqqueue:get_pid(Q))", **self._names))

    def start(self) -> None:
        """Undo :meth:`stop`."""
        self._broker.ctl("eval", _SERVER.format(verb="sys:resume(amqqueue:get_pid(Q))", **self._names))


def rate(database: Database, count: int = 2000) -> float:
    """Return how many jobs of the healthy kind are published in a second."""
    began = time.monotonic()
    relays.add(database, count, kind=HEALTHY)
    waiting = "SELECT count(*) FROM outbox.job WHERE kind = %s AND state <> 'published'"
    eventually(lambda: database.value(waiting, HEALTHY) == 0, 60)
    return count / (time.monotonic() - began)


@pytest.mark.exhaustive
@pytest.mark.measured
@pytest.mark.parametrize(("known", "burst", "within"), [(True, 300, 4.0), (False, 4 * WINDOW, 13.0)])
def test_a_queue_without_a_leader_costs_the_others_no_speed(
    database: Database,
    rabbitmq: Broker,
    amqp_url: str,
    figures: Figures,
    *,
    known: bool,
    burst: int,
    within: float,
) -> None:
    """Known: the relay's channel has sent there before. Another one asks for the leader, and waits for it."""
    with Collector(amqp_url, kinds=(KIND,)) as collector, relays.line(amqp_url) as line:
        line.bind("healthy", HEALTHY)
        member = Member(rabbitmq, amqp_url, collector.queue)
        with relays.relaying(database, amqp_url, window=WINDOW) as relay:
            relay.wait(events.BrokerConnected)
            rate(database)
            first = backlog(database, 1 if known else 0)
            collector.wait_for(first.ids)
            before = max(rate(database) for _ in range(2))
            member.stop()
            account = backlog(database, burst)
            eventually(lambda: len(relay.shift._window) > 0.7 * min(burst, WINDOW))
            began = time.monotonic()
            rate(database, WINDOW)
            figures.within(within, [time.monotonic() - began], f"{WINDOW} healthy jobs beside a silent crowd")
            after = max(rate(database) for _ in range(4))
            figures.say(f"beside a queue without a leader: {after / before:.2f} of the speed")
            down = relay.wait(events.DestinationDown)
            assert (down.destination, "leader" in down.reason) == (KIND, True)
            account.committed += backlog(database, WINDOW).committed
            eventually(lambda: relays.states(database).get("parked", 0) >= WINDOW / 2)
            assert collector.seen == first.ids, "nothing came, so nothing may be marked"
            marked = "SELECT count(*) FROM outbox.job WHERE kind = %s AND state = 'published'"
            assert database.value(marked, KIND) == len(first.ids)
            member.start()
            collector.wait_for(account.ids, 60)
            eventually(lambda: set(relays.states(database)) == {"published"}, 30)
            assert relay.of(events.DestinationUp)
            unknown = [lost.unknown for lost in relay.of(events.BrokerLost)]
        account.committed[:0] = first.committed
        report = judge(account, collector.deliveries)
        figures.say(f"{report}; in flight when connections ended: {unknown}")
        assert not report.broken, report
        assert report.duplicates.total() <= sum(unknown)
        assert len(unknown) == 1
        assert after > 0.5 * before
