"""The relay as a whole, in a thread on real servers: elected, at work, losing a server, ending."""

from __future__ import annotations

import random
import statistics
import threading
import time
from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from relays import NOBODY, Line, Running, add, ids_of, relaying, settings, states

from outbox import events
from outbox.errors import Unreachable, WrongEnvironment
from relay import loop as module
from relay.backend import Postponed
from relay.config import Settings
from relay.loop import Relay
from relay.term import Term

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from relay.theatre.proxy import Proxy


PUBLISHED = "SELECT state = 'published' FROM outbox.job WHERE id = %s"


def leader_pid(database: Database) -> int:
    return int(database.value("SELECT pid FROM outbox.leader"))


def test_it_starts_leads_publishes_and_ends(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    with relaying(database, amqp_url) as running:
        running.wait(events.BrokerConnected)
        add(database, 10)
        eventually(lambda: states(database) == {"published": 10})
        assert running.relay.leading
        assert running.relay.broker_live
        assert running.relay.database_live
    started = running.of(events.RelayStarted)[0]
    assert started.grade == "A"
    assert ":***@" in started.broker
    assert not running.relay.leading
    assert not running.of(events.LeadershipGivenUp), "a graceful end is no loss"


def test_a_lossy_broker_is_refused_at_once(database: Database) -> None:
    with pytest.raises(WrongEnvironment, match="--allow-lossy"):
        Relay(settings(database, "memory://"))


def test_what_was_sent_is_confirmed_and_marked_before_the_end(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(amqp_url)
    look.bind("all")
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 500)
        eventually(lambda: look.depth("all") == 500)
        running.relay.stop()
        between.resume()
        running.join()
    assert states(database) == {"published": 500}
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
    assert len(look.take("all")) == 500


def test_the_end_does_not_wait_for_ever(
    database: Database, amqp_url: str, look: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_CONFIRMS", 0.5)
    look.bind("all")
    held = add(database, 3)
    with database.connect(autocommit=False) as handler:
        handler.execute("SELECT FROM outbox.job WHERE id = ANY(%s) FOR UPDATE", [held])
        with relaying(database, amqp_url) as running:
            eventually(lambda: look.depth("all") == 3)
            running.relay.stop()
            running.join(5)
        handler.rollback()
    assert states(database) == {"pending": 3}


def test_the_next_relay_follows_at_once(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    with relaying(database, amqp_url) as first:
        first.wait(events.LeadershipGained)
        with relaying(database, amqp_url) as second:
            second.wait(events.StandingBy)
            second.wait(events.BrokerConnected)
            first.stop()
            began = time.monotonic()
            assert second.wait(events.LeadershipGained).term == 2
            assert time.monotonic() - began < 1.0
            add(database, 5)
            eventually(lambda: states(database) == {"published": 5})


def test_a_leader_whose_session_is_ended_stands_again(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    with relaying(database, amqp_url) as running:
        for round_ in range(1, 4):
            running.wait(events.LeadershipGained, count=round_)
            add(database, 100)
            database.execute("SELECT pg_terminate_backend(%s)", leader_pid(database))
            running.wait(events.LeadershipGivenUp, count=round_)
        eventually(lambda: states(database) == {"published": 300})
    assert len(set(ids_of(look.take("all")))) == 300


def test_a_database_that_is_away_is_waited_for(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(database.dsn)
    chosen = settings(database, amqp_url)
    running = Running(type(chosen)(database_url=between.url(database.dsn), broker_url=amqp_url))
    running.wait(events.BrokerConnected)
    between.refuse()
    running.wait(events.LeadershipGivenUp)
    assert running.wait(events.DatabaseLost, count=3).wait > running.of(events.DatabaseLost)[0].wait
    add(database, 10)
    between.accept()
    eventually(lambda: states(database) == {"published": 10})
    running.stop()
    assert running.failure is None


def test_a_broker_that_speaks_meanwhile_does_not_hurry_the_wait_for_a_database(
    database: Database, amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    """What was unread on the broker's socket ended each sleep: 800 tries a second, each said to be in 5 s."""
    to_database, to_broker = proxy(database.dsn), proxy(amqp_url)
    running = Running(
        Settings(database_url=to_database.url(database.dsn), broker_url=to_broker.url(amqp_url))
    )
    running.wait(events.BrokerConnected)
    to_database.refuse()
    running.wait(events.DatabaseLost)
    began = time.monotonic()
    to_broker.cut()
    waits = [lost.wait for lost in running.of(events.DatabaseLost)]
    running.wait(events.DatabaseLost, count=len(waits) + 3)
    waits = [lost.wait for lost in running.of(events.DatabaseLost)][len(waits) :][:2]
    assert time.monotonic() - began >= 0.9 * sum(waits)
    assert running.wait(events.BrokerConnected, count=2)
    running.stop()


def test_a_fence_that_is_put_off_costs_nothing(
    database: Database, amqp_url: str, look: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence, chance = Term.fence, random.Random(1)

    def sometimes(term: Term) -> None:
        if chance.random() < 0.5:
            raise Postponed("made")
        fence(term)

    monkeypatch.setattr(Term, "fence", sometimes)
    look.bind("known", "known.#")
    with relaying(database, amqp_url, window=50) as running:
        add(database, 100, kind="known.x")
        add(database, 100, kind="known.x", key=lambda n: f"k{n % 10}")
        add(database, 20, kind="late.x")
        eventually(lambda: states(database) == {"published": 200, "parked": 20}, 30)
        look.bind("late", "late.#")
        eventually(lambda: states(database) == {"published": 220}, 60)
        assert not running.of(events.LeadershipGivenUp)
    assert len(look.take("known")) == 200


def test_a_statement_that_never_gets_through_is_named(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    with relaying(database, amqp_url) as running:
        running.wait(events.BrokerConnected)
        with database.connect(autocommit=False) as other:
            other.execute("LOCK TABLE outbox.taker")
            assert "55P03" in running.wait(events.StatementPostponed, 20).reason
            other.rollback()


@pytest.mark.parametrize("missing", ["broker", "database"])
def test_drain_ends_with_an_error_when_a_server_is_missing(
    database: Database, amqp_url: str, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(module, "WITHOUT_BROKER", 0.5)
    chosen = settings(database, NOBODY if missing == "broker" else amqp_url, drain=True)
    if missing == "database":
        chosen = type(chosen)(database_url="postgresql://u@127.0.0.1:1/d", broker_url=amqp_url, drain=True)
    drained = Running(chosen)
    drained.join(15)
    assert isinstance(drained.failure, Unreachable)


def test_drain_waits_for_what_a_full_queue_nacked(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("full", max_length=5, overflow="reject-publish")
    add(database, 30)
    with relaying(database, amqp_url, drain=True) as drained:
        eventually(lambda: sum(b.nacked for b in drained.of(events.BatchPublished)) > 0)
        taken: list[object] = []
        eventually(lambda: taken.extend(look.take("full")) or not drained.thread.is_alive(), 60)
        taken += look.take("full")
    assert states(database) == {"published": 30}
    assert len(taken) == 30


@pytest.mark.measured
def test_an_idle_relay_hears_every_commit(database: Database, amqp_url: str, look: Line) -> None:
    """Commits at any moment, also while it falls asleep: none waits for the next poll of a second."""
    look.bind("all")
    chance, pause, waited = random.Random(7), threading.Event(), []
    with relaying(database, amqp_url) as relay, database.connect() as writer, database.connect() as reader:
        relay.wait(events.BrokerConnected)
        for _ in range(60):
            pause.wait(chance.choice([0.0, 0.01, 0.1, 0.3]) * chance.random())
            began = time.monotonic()
            (job,) = writer.execute("SELECT outbox.add('a.b', '{}')").fetchone() or (None,)
            eventually(lambda job=job: reader.execute(PUBLISHED, [job]).fetchone() == (True,), 5, 0.002)
            waited.append(time.monotonic() - began)
    assert statistics.median(waited) < 0.2
    assert max(waited) < 0.9, sorted(waited)[-5:]


def test_without_a_doorbell_polling_is_enough(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    with relaying(database, amqp_url, doorbell=False) as relay:
        relay.wait(events.BrokerConnected)
        for round_ in range(1, 6):
            add(database)
            eventually(lambda n=round_: states(database) == {"published": n}, 2.0)


def test_what_may_have_been_sent_before_says_so(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    before = add(database, 2)
    with relaying(database, amqp_url) as relay:
        relay.wait(events.BrokerConnected)
        eventually(lambda: states(database) == {"published": 2})
        add(database, 2)
        eventually(lambda: states(database) == {"published": 4})
    header = "x-outbox-possible-duplicate"
    marked = {
        message.properties["message_id"]: message.properties["application_headers"].get(header)
        for message in look.take("all")
    }
    assert [marked.pop(str(job)) for job in before] == [True, True]
    assert list(marked.values()) == [None, None]


def test_an_exchange_of_another_type_ends_the_relay_and_frees_the_lock(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.channel.exchange_declare("outbox", "fanout", durable=True, auto_delete=False)
    refused = Running(settings(database, amqp_url))
    refused.join()
    assert isinstance(refused.failure, WrongEnvironment)
    assert (
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'outbox-relay%%'"
        )
        == 0
    )
