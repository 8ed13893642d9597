"""A database that answers and refuses: it is not called unreachable, and what to do about it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import pytest
from consuming import Shop
from handling import fault, write
from helpers import eventually
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from outbox import events
from outbox.consumer.gate import Backoff
from outbox.errors import WrongEnvironment
from outbox.handlers import Handlers
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from sqlalchemy import Engine

FAULTS: list[tuple[LiteralString, LiteralString, str]] = [
    ("ALTER SCHEMA outbox RENAME TO away", "ALTER SCHEMA away RENAME TO outbox", "outbox migrate"),
    ("ALTER TABLE outbox.job RENAME TO away", "ALTER TABLE outbox.away RENAME TO job", "outbox migrate"),
    (
        "ALTER TABLE outbox.job RENAME created_at TO away",
        "ALTER TABLE outbox.job RENAME away TO created_at",
        "outbox migrate",
    ),
]


@pytest.fixture
def wired(database: Database, amqp_url: str) -> Iterator[Shop]:
    """An application with a broker."""
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.mark.parametrize(("broken", "mended", "words"), FAULTS)
def test_what_our_own_statements_miss_is_said(
    shop: Shop, run: Any, broken: LiteralString, mended: LiteralString, words: str
) -> None:
    job_id = shop.job()
    runner, message = run(write), shop.delivery(job_id)
    shop.database.execute(broken)
    kept = runner.run(message)
    assert isinstance(kept, Keep)
    assert (kept.database_lost, kept.refused) == (True, True)
    assert words in kept.reason
    shop.database.execute(mended)
    assert runner.run(message) == Ack()
    assert shop.row(job_id).attempt == 1


@pytest.mark.parametrize(
    ("state", "words"), [("25006", "primary"), ("26000", "prepare_threshold"), ("42P05", "prepare_threshold")]
)
def test_a_pooler_and_a_replica_are_no_fault_of_the_handler(
    shop: Shop, run: Any, state: str, words: str
) -> None:
    job_id = shop.job()
    kept = run(fault(state)).run(shop.delivery(job_id))
    assert isinstance(kept, Keep)
    assert (kept.database_lost, kept.refused) == (True, True)
    assert words in kept.reason
    assert shop.row(job_id).attempt == 0


@pytest.fixture
def of() -> Iterator[Callable[..., Handlers[Any]]]:
    """Return what makes a registry on an engine with settings of its own."""
    engines: list[Engine] = []

    def with_settings(shop: Shop, settings: str = "") -> Handlers[Any]:
        engines.append(create_engine(shop.database.url, connect_args={"options": settings}))
        handlers = Handlers("receipts", session=sessionmaker(engines[-1]))
        handlers("order.paid", event=True)(write)  # an event: there is nothing to register
        return handlers

    yield with_settings
    for engine in engines:
        engine.dispose()


def test_dates_that_the_driver_cannot_read_are_named(shop: Shop, of: Any) -> None:
    job_id = shop.job()
    handlers = of(shop, "-c datestyle=SQL")
    kept = Runner(handlers, observer=shop.observe).run(shop.delivery(job_id))
    assert isinstance(kept, Keep)
    assert kept.refused
    assert "datestyle = 'ISO'" in kept.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [("-c default_transaction_read_only=on", "primary"), ("-c datestyle=SQL", "datestyle = 'ISO'")],
)
def test_a_consumer_does_not_start_where_it_could_not_work(
    wired: Shop, of: Any, settings: str, words: str
) -> None:
    error = wired.refused(of(wired, settings))
    assert isinstance(error, WrongEnvironment)
    assert words in str(error)


def test_a_consumer_of_events_misses_the_schema_too(wired: Shop, of: Any) -> None:
    wired.database.execute("ALTER SCHEMA outbox RENAME TO away")
    error = wired.refused(of(wired))
    assert isinstance(error, WrongEnvironment)
    assert "outbox migrate" in str(error)


def test_a_schema_that_goes_away_is_waited_for_with_patience(wired: Shop, of: Any) -> None:
    with wired.consuming(of(wired)) as running:
        running.started(wired)
        wired.database.execute("ALTER SCHEMA outbox RENAME TO away")
        wired.publish(b"{}", routing_key="order.paid", message_id="m-1", content_type="application/json")
        refused = eventually(lambda: wired.heard(events.ConsumerRefused))
        assert "outbox migrate" in refused[0].reason
        assert refused[0].wait >= 1
        assert not wired.heard(events.ConsumerLost)
        wired.database.execute("ALTER SCHEMA away RENAME TO outbox")
        eventually(lambda: wired.effects() == 1, 30)


def test_patience_grows() -> None:
    patience = Backoff(2.0, 60.0)
    waits = [patience.next() for _ in range(8)]
    assert waits[0] < 3
    assert all(40 < wait < 80 for wait in waits[5:])
