"""What a broker took and forgot comes back by itself; what somebody works on, or may still get, does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import relays
from helpers import eventually

from outbox import events

if TYPE_CHECKING:
    from databases import Database

SOON = 1.0
"""Seconds; ten minutes in real life."""


def taken_by(database: Database, queue: str, kind: str = "a.b") -> None:
    database.execute("INSERT INTO outbox.taker (kind, queue) VALUES (%s, %s)", kind, queue)


def test_a_job_that_the_broker_lost_is_sent_again_with_the_same_version(
    database: Database, amqp_url: str
) -> None:
    ids = relays.add(database, 3)
    taken_by(database, "q")
    with relays.line(amqp_url) as line:
        line.bind("q")
        with relays.relaying(database, amqp_url, redeliver_after=SOON) as relay:
            eventually(lambda: line.depth("q") == 3)
            line.channel.queue_purge("q")
            relay.wait(events.JobsRedelivered)
            eventually(lambda: line.depth("q") == 3)
            again = line.take("q")
    assert set(relays.ids_of(again)) == set(ids)
    for message in again:
        assert message.headers["x-outbox-version"] == 1
        assert message.headers["x-outbox-possible-duplicate"] is True


def test_a_queue_that_is_gone_counts_as_empty(database: Database, amqp_url: str) -> None:
    relays.add(database)
    taken_by(database, "q")
    with relays.line(amqp_url) as line:
        line.bind("q")
        with relays.relaying(database, amqp_url, redeliver_after=SOON):
            eventually(lambda: relays.states(database) == {"published": 1})
            line.channel.queue_delete("q")
            eventually(lambda: relays.states(database) == {"parked": 1})
            line.bind("q")
            eventually(lambda: line.depth("q") == 1)


def test_nothing_is_sent_again_while_it_may_still_come_or_somebody_is_at_it(
    database: Database, amqp_url: str
) -> None:
    claimed, event = relays.add(database, 1)[0], relays.add(database, 1, kind="news", tracked=False)[0]
    waiting = relays.add(database, 1, kind="waits")[0]
    untaken = relays.add(database, 1, kind="of.strangers")[0]
    lost = relays.add(database, 1, kind="is.lost")[0]
    for kind, queue in (("a.b", "q"), ("news", "q"), ("waits", "w"), ("is.lost", "q")):
        taken_by(database, queue, kind)
    with relays.line(amqp_url) as line, database.connect() as handler, handler.transaction():
        line.bind("w", "waits")
        line.bind("q")
        handler.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s::text, 0))", (str(claimed),))
        with relays.relaying(database, amqp_url, redeliver_after=SOON):
            eventually(lambda: relays.states(database) == {"published": 5})
            for times in (2, 3):
                line.channel.queue_purge("q")
                eventually(lambda times=times: database.value("SELECT max(sends) FROM outbox.job") == times)
                eventually(lambda: line.depth("q") == 1)
    sends = dict(database.execute("SELECT id, sends FROM outbox.job"))
    assert sends[lost] == 3
    assert {sends[each] for each in (claimed, event, waiting, untaken)} == {1}


def test_an_adopted_event_whose_retry_was_lost_is_sent_to_its_queue_again(
    database: Database, amqp_url: str
) -> None:
    """Its kind has no taker. What strangers take from a queue of theirs was never tried by us."""
    lost, waits, strangers = (relays.add(database, 1, kind="news")[0] for _ in range(3))
    for job, queue, attempt in ((lost, "billing", 1), (waits, "search", 1), (strangers, "billing", 0)):
        database.execute(
            "UPDATE outbox.job SET exchange = '', routing_key = %s, attempt = %s WHERE id = %s",
            queue,
            attempt,
            job,
        )
    with relays.line(amqp_url) as line:
        line.bind("billing")
        line.bind("search", "nothing")
        with relays.relaying(database, amqp_url, redeliver_after=SOON):
            eventually(lambda: (line.depth("billing"), line.depth("search")) == (2, 1))
            line.channel.queue_purge("billing")
            eventually(lambda: line.depth("billing") == 1)
    sends = dict(database.execute("SELECT id, sends FROM outbox.job"))
    assert sends == {lost: 2, waits: 1, strangers: 1}
