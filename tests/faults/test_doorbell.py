"""No commit goes unheard: an idle leader is woken by the next job, whenever it falls asleep."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import relays
from helpers import eventually

from outbox import events

if TYPE_CHECKING:
    from databases import Database
    from faults.figures import Figures

MINE = "SELECT count(*) FROM outbox.job WHERE state = 'pending'"


@pytest.mark.measured
@pytest.mark.parametrize("rounds", [150, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_an_idle_leader_hears_every_single_commit(
    database: Database, amqp_url: str, rounds: int, figures: Figures
) -> None:
    """Commits come just when the leader, done with the one before, is about to fall asleep."""
    slowest, late = 0.0, 0
    with relays.line(amqp_url) as line, database.connect() as application, database.connect() as look:
        line.bind("q")
        with relays.relaying(database, amqp_url) as relay:
            relay.wait(events.BrokerConnected)
            for number in range(rounds):
                threading.Event().wait((number % 40) / 4000)
                began = time.monotonic()
                application.execute("SELECT outbox.add('a.b', '{}')")
                eventually(lambda: look.execute(MINE).fetchone() == (0,), timeout=5, every=0.002)
                took = time.monotonic() - began
                slowest, late = max(slowest, took), late + (took > 0.9)
    figures.say(
        f"{rounds} single commits: {late} unheard, the slowest published after {slowest * 1000:.0f} ms"
    )
    # The poll of an idle leader is a second: what only that found was not heard.
    assert late == 0


def test_a_writer_that_began_before_the_leader_slept_is_heard(database: Database, amqp_url: str) -> None:
    with relays.line(amqp_url) as line, database.connect() as application:
        line.bind("q")
        with relays.relaying(database, amqp_url) as relay:
            relay.wait(events.BrokerConnected)
            for pause in (0.0, 0.05, 0.3, 1.2):
                with application.transaction():
                    application.execute("SELECT outbox.add('a.b', '{}')")
                    threading.Event().wait(pause)
                began = time.monotonic()
                eventually(lambda: database.value(MINE) == 0, timeout=5, every=0.002)
                assert time.monotonic() - began < 0.9


def test_without_the_bell_polling_finds_it_within_a_second(database: Database, amqp_url: str) -> None:
    with relays.line(amqp_url) as line, database.connect() as application:
        line.bind("q")
        with relays.relaying(database, amqp_url) as relay:
            relay.wait(events.BrokerConnected)
            application.execute("SET outbox.doorbell = 'off'")
            for _ in range(3):
                application.execute("SELECT outbox.add('a.b', '{}')")
                eventually(lambda: database.value(MINE) == 0, timeout=2)


def test_a_bell_that_is_off_at_the_relay_costs_no_lock(database: Database, amqp_url: str) -> None:
    with relays.line(amqp_url) as line:
        line.bind("q")
        with relays.relaying(database, amqp_url, doorbell=False) as relay:
            relay.wait(events.BrokerConnected)
            relays.add(database)
            eventually(lambda: database.value(MINE) == 0, timeout=2)
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 2"
            assert database.value(held) == 0
