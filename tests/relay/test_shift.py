"""One term's work on real servers: what is sent, parked, marked, found again, and when it sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from helpers import eventually
from relays import Line, add, ids_of, relaying, states

from outbox import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from relay.theatre.proxy import Proxy


RESTING = 30
"""Polls a second of a relay that has nothing to do but to look: a hot loop makes hundreds."""


OPEN: LiteralString = """SELECT application_name, state FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, 'outbox-relay')
    AND starts_with(state, 'idle in')"""


def published(database: Database, count: int, timeout: float = 15.0) -> None:
    eventually(lambda: states(database) == {"published": count}, timeout)


def test_every_job_is_published_once_and_marked(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    ids = add(database, 3000) + add(database, 500, key=lambda n: f"k{n % 50}")
    with relaying(database, amqp_url) as running:
        published(database, 3500)
    taken = look.take("all")
    assert sorted(ids_of(taken)) == sorted(ids)
    assert sum(batch.confirmed for batch in running.of(events.BatchPublished)) == 3500


def test_no_transaction_is_open_while_messages_fly(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    """It would keep vacuum from everybody's dead rows for as long as a broker takes."""
    between = proxy(amqp_url)
    look.bind("all")
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 200)
        eventually(lambda: look.depth("all") >= 100)
        for _ in range(20):
            assert not database.execute(OPEN)
            running.thread.join(0.02)
        between.resume()
        published(database, 200)


def test_jobs_of_a_key_arrive_in_line(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    ids = add(database, 300, key=lambda n: f"k{n % 7}")
    with relaying(database, amqp_url):
        published(database, 300)
    arrived = ids_of(look.take("all"))
    for rest in range(7):
        line_of_key = ids[rest::7]
        assert [each for each in arrived if each in set(line_of_key)] == line_of_key


def test_an_unbound_kind_is_parked_and_comes_back_by_itself(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("known", "known.#")
    add(database, 300, kind="unknown.kind")
    add(database, 100, kind="known.kind")
    with relaying(database, amqp_url) as running:
        eventually(lambda: states(database) == {"published": 100, "parked": 300})
        assert running.wait(events.DestinationDown).destination == "unknown.kind"
        look.bind("late", "unknown.#")
        published(database, 400)
        assert running.wait(events.DestinationUp).destination == "unknown.kind"
    assert len(look.take("late")) == 300


def test_a_probe_arrives_with_the_version_of_its_row(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("other", "other.#")
    (job,) = add(database, kind="late.kind")
    with relaying(database, amqp_url):
        eventually(lambda: states(database) == {"parked": 1})
        look.bind("late", "late.#")
        published(database, 1)
    (message,) = look.take("late")
    version = database.value("SELECT version FROM outbox.job WHERE id = %s", job)
    assert message.properties["application_headers"]["x-outbox-version"] == version


def test_a_missing_exchange_costs_the_others_one_connection_at_most(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("all")
    add(database, 20, exchange="missing")
    with relaying(database, amqp_url) as running:
        running.wait(events.JobsParked)
        eventually(lambda: states(database) == {"parked": 20})
        for round_ in range(1, 40):
            add(database, 50)
            eventually(lambda n=round_: states(database).get("published") == 50 * n)
            eventually(lambda: "pending" not in states(database))
        lost = running.of(events.BrokerLost)
    assert len(lost) <= 1, [each.reason for each in lost]
    assert len(look.take("all")) == 39 * 50
    (row,) = database.execute("SELECT DISTINCT left(error, 40) FROM outbox.job WHERE error IS NOT NULL")
    assert "404 NOT_FOUND - no exchange 'missing'" in row[0]


def test_a_missing_exchange_that_appears_gets_its_jobs(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    add(database, 20, exchange="late")
    with relaying(database, amqp_url):
        eventually(lambda: states(database) == {"parked": 20})
        look.bind("late", "#", exchange="late")
        published(database, 20)
    assert len(look.take("late")) == 20


def test_a_job_that_no_message_can_hold_is_buried_alone(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("all")
    add(database, 10)
    far, named = add(database, routing_key="r" * 300), add(database, headers='{"' + "n" * 300 + '": "x"}')
    add(database, 10)
    with relaying(database, amqp_url) as running:
        eventually(lambda: states(database) == {"published": 20, "dead": 2})
        refused = {event.job_id for event in running.of(events.JobRefused)}
        assert not running.of(events.BrokerLost)
    assert refused == {str(far[0]), str(named[0])}


def test_a_job_that_the_broker_refuses_is_found_among_many_and_buried(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("all")
    add(database, 100)
    # Its header does not fit into a frame: RabbitMQ ends the connection with 501.
    (poison,) = add(database, headers='{"big": "' + "x" * 200_000 + '"}')
    add(database, 100)
    add(database, 100, key=lambda n: f"k{n}")
    with relaying(database, amqp_url) as running:
        eventually(lambda: states(database) == {"published": 300, "dead": 1}, 30)
        (refused,) = running.of(events.JobRefused)
        assert refused.job_id == str(poison)
        assert len(running.of(events.BrokerLost)) <= 2
    taken = ids_of(look.take("all"))
    assert len(set(taken)) == 300
    assert len(taken) <= 600


def test_a_poisonous_job_is_found_while_new_jobs_keep_coming(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("all")
    add(database, 200)
    add(database, headers='{"big": "' + "x" * 200_000 + '"}')
    with relaying(database, amqp_url, window=100) as running:
        for _ in range(200):
            add(database, 20, key=lambda n: f"k{n}")
            add(database, 20)
            if running.of(events.JobRefused):
                break
        running.wait(events.JobRefused, 30)
        assert len(running.of(events.BrokerLost)) <= 2


def test_a_full_queue_makes_its_jobs_wait_and_no_others(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("full", "full.#", max_length=10, overflow="reject-publish")
    look.bind("free", "free.#")
    add(database, 50, kind="full.kind")
    add(database, 50, kind="full.kind", key=lambda n: f"k{n}")
    with relaying(database, amqp_url) as running:
        eventually(lambda: running.of(events.DestinationResting))
        assert {resting.destination for resting in running.of(events.DestinationResting)} == {"full.kind"}
        for round_ in range(1, 11):
            add(database, 20, kind="free.kind")
            eventually(lambda n=round_: look.depth("free") == 20 * n)
        # The ninety that do not fit, once at the most, and a few that looked whether there is room.
        assert sum(b.nacked for b in running.of(events.BatchPublished)) <= 90 + 20
        look.channel.queue_purge("full")
        eventually(lambda: look.take("full") is None or states(database) == {"published": 300}, 60)


def test_drain_publishes_what_is_due_and_ends(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    add(database, 2500)
    add(database, 50, key=lambda n: f"k{n % 5}")
    add(database, 10, state="scheduled", available_at="2020-01-01")
    add(database, 3, state="scheduled", available_at="2100-01-01")
    with relaying(database, amqp_url, drain=True) as running:
        running.join(30)
    assert states(database) == {"published": 2560, "scheduled": 3}


def test_marks_wait_for_handlers_and_nothing_else_does(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    held = add(database, 5)
    with database.connect(autocommit=False) as handler:
        handler.execute("SELECT FROM outbox.job WHERE id = ANY(%s) FOR UPDATE", [held])
        with relaying(database, amqp_url):
            add(database, 100)
            eventually(lambda: states(database) == {"pending": 5, "published": 100})
            assert len(look.take("all")) == 105
            handler.rollback()
            published(database, 105)
    assert look.take("all") == []
