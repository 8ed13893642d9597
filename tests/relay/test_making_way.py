"""A leader that reaches no broker makes way for a relay that does, and for nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import eventually
from relays import NOBODY, Line, Running, add, relaying, states

from outbox import events
from relay import loop as module

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from databases import Database

    from relay.theatre.proxy import Proxy


def test_a_leader_without_a_broker_makes_way_for_one_that_has_it(
    database: Database, amqp_url: str, look: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHOUT_BROKER", 0.5)
    look.bind("all")
    with relaying(database, NOBODY, take_over=True) as without:
        without.wait(events.LeadershipGained)
        with relaying(database, amqp_url, take_over=True) as able:
            given_up = without.wait(events.LeadershipGivenUp)
            assert "another relay has one" in given_up.reason
            able.wait(events.LeadershipGained)
            add(database, 5)
            eventually(lambda: states(database) == {"published": 5})
            assert len(without.of(events.LeadershipGained)) == 1


def test_one_that_made_way_leads_again_as_soon_as_it_reaches_the_broker(
    database: Database,
    amqp_url: str,
    look: Line,
    proxy: Callable[[str], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of two relays makes way for the other: while both stay out, READY or not, nobody publishes."""
    monkeypatch.setattr(module, "WITHOUT_BROKER", 0.5)
    look.bind("all")
    line = proxy(amqp_url)
    with relaying(database, line.url(amqp_url), take_over=True) as first:
        first.wait(events.BrokerConnected)
        line.refuse()
        with relaying(database, amqp_url, take_over=True) as second:
            first.wait(events.LeadershipGivenUp)
            second.wait(events.LeadershipGained)
            line.accept()
            first.wait(events.BrokerConnected, count=2)
        add(database, 5)
        eventually(lambda: states(database) == {"published": 5})


def test_a_leader_without_a_broker_keeps_leading_if_nobody_has_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHOUT_BROKER", 0.3)
    with relaying(database, NOBODY) as first, relaying(database, NOBODY) as second:
        eventually(lambda: first.relay.leading or second.relay.leading)
        running(first, second)
        add(database, 3, state="scheduled", available_at="2020-01-01")
        eventually(lambda: states(database) == {"pending": 3})
        assert not first.of(events.LeadershipGivenUp) + second.of(events.LeadershipGivenUp)


def running(*relays: Running) -> None:
    """Wait until each has tried its broker for longer than a leader may be without one."""
    for each in relays:
        each.wait(events.BrokerLost, count=2)
