"""Confirms and marks on real servers: what overtook its mark, what was put off, what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import eventually
from relays import Line, add, ids_of, relaying, states

from outbox import events
from relay.backend import Postponed
from relay.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest
    from databases import Database

    from relay.row import Row
    from relay.theatre.proxy import Proxy

DUPLICATE = "x-outbox-possible-duplicate"


def test_a_message_may_overtake_its_mark(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 10)
        eventually(lambda: look.depth("all") == 10)
        database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2")
        between.resume()
        eventually(lambda: sum(b.overtaken for b in running.of(events.BatchPublished)) == 10)
        eventually(lambda: running.shift.idle)
        assert states(database) == {"succeeded": 10}


def test_a_job_that_failed_meanwhile_is_sent_again_with_its_new_version(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 10)
        eventually(lambda: look.depth("all") == 10)
        database.execute(
            "UPDATE outbox.job SET state = 'scheduled', version = 2, attempt = 1, available_at = now()"
        )
        eventually(lambda: states(database) == {"pending": 10})
        between.resume()
        eventually(lambda: states(database) == {"published": 10})
        eventually(lambda: look.depth("all") == 20)
    versions = [message.properties["application_headers"]["x-outbox-version"] for message in look.take("all")]
    assert sorted(versions) == [1] * 10 + [3] * 10


def test_a_mark_that_is_put_off_sends_nothing_again(
    database: Database, amqp_url: str, look: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, failed = Ledger.mark, []

    def late(ledger: Ledger, rows: Sequence[Row]) -> object:
        if len(failed) < 5:
            failed.append(len(rows))
            raise Postponed("made")
        return mark(ledger, rows)

    monkeypatch.setattr(Ledger, "mark", late)
    look.bind("all")
    ids = add(database, 50)
    with relaying(database, amqp_url):
        eventually(lambda: states(database) == {"published": 50})
    assert len(failed) == 5
    assert sorted(ids_of(look.take("all"))) == sorted(ids)


def test_what_a_cut_left_unknown_is_sent_again_and_says_so(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        ids = add(database, 20) + add(database, 20, key=lambda n: f"k{n}")
        eventually(lambda: look.depth("all") == 40)
        between.cut()
        between.resume()
        assert running.wait(events.BrokerLost).unknown == 40
        eventually(lambda: states(database) == {"published": 40})
        eventually(lambda: not running.shift._window.suspects)
    taken = look.take("all")
    marked = [message.properties["application_headers"].get(DUPLICATE, False) for message in taken]
    assert sorted(ids_of(taken)) == sorted(ids * 2)
    assert marked == [False] * 40 + [True] * 40


def test_what_was_unknown_and_moved_on_is_forgotten(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    look.bind("all")
    between = proxy(amqp_url)
    with relaying(database, between.url(amqp_url)) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 20)
        eventually(lambda: look.depth("all") == 20)
        database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2")
        between.cut()
        between.resume()
        running.wait(events.BrokerConnected, count=2)
        eventually(lambda: not running.shift._window.suspects)
        eventually(lambda: running.shift.idle)
    assert look.depth("all") == 20
