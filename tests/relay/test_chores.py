"""The leader's chores on a real database: each does its part, waits for nobody, and leaves the rest alone."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from relays import NOBODY, add, settings, states

from outbox import events
from relay.broker import Broker
from relay.chores import ALIGN_EVERY, BATCH, Chores
from relay.destinations import Destinations
from relay.ledger import Ledger
from relay.routes import Routes
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from outbox.events import Event
    from relay.term import Term


class Desk:
    """Chores with what they need; the broker's queues hold what a test says."""

    def __init__(self, database: Database, term: Term, **changes: Any) -> None:
        self.seen: list[Event] = []
        self.depths: dict[str, int | None] = {}
        self.asked: list[str] = []
        self.destinations = Destinations(Ledger(term).parked())
        broker = Broker(NOBODY, Routes("outbox", ()), Window(10, 10), self.seen.append)
        broker.depth = self._depth  # type: ignore[method-assign] # no broker loses its messages on demand
        self.chores = Chores(
            term=term,
            ledger=Ledger(term),
            broker=broker,
            destinations=self.destinations,
            settings=settings(database, **changes),
            observe=self.seen.append,
        )

    def _depth(self, queue: str) -> int | None:
        self.asked.append(queue)
        return self.depths.get(queue, 0)


@pytest.fixture
def desk(database: Database, term: Term) -> Desk:
    return Desk(database, term)


def age(database: Database, column: str, seconds: float) -> None:
    """Move a time of every job into the past."""
    database.execute(f"UPDATE outbox.job SET {column} = {column} - make_interval(secs => {seconds})")


def columns(database: Database, job: uuid.UUID, names: str) -> tuple[Any, ...]:
    return database.execute(f"SELECT {names} FROM outbox.job WHERE id = '{job}'")[0]


def scheduled(database: Database, count: int = 1, at: str = "2020-01-01", **given: Any) -> list[uuid.UUID]:
    return add(database, count, state="scheduled", available_at=at, **given)


def test_what_is_due_is_staged_with_a_new_position_in_its_old_place(database: Database, desk: Desk) -> None:
    (job,) = scheduled(database)
    scheduled(database, at="2100-01-01")
    add(database)
    desk.chores.run()
    assert columns(database, job, "state, version, pos, first_pos, line") == ("pending", 2, 4, 1, 1)
    assert states(database) == {"pending": 2, "scheduled": 1}
    assert desk.seen == [events.JobsStaged(1)]


def test_a_full_batch_asks_for_another_round(database: Database, desk: Desk) -> None:
    scheduled(database, BATCH + 1)
    assert desk.chores.run()
    assert states(database) == {"pending": BATCH, "scheduled": 1}
    assert not desk.chores.run()
    assert states(database) == {"pending": BATCH + 1}


def test_a_locked_job_is_passed_over_and_found_again(database: Database, desk: Desk) -> None:
    first, _second = scheduled(database, 2)
    with database.connect(autocommit=False) as other:
        other.execute("SELECT FROM outbox.job WHERE id = %s FOR UPDATE", [first])
        desk.chores._stage()
        assert columns(database, first, "state") == ("scheduled",)
        assert states(database) == {"scheduled": 1, "pending": 1}
        other.rollback()
    desk.chores._stage()
    assert states(database) == {"pending": 2}


def running(database: Database, count: int, lease: str, **given: Any) -> list[uuid.UUID]:
    return add(database, count, state="running", lease_until=lease, lease_token=uuid.uuid4(), **given)


def test_a_lease_that_ran_out_is_retried_until_attempts_run_out(database: Database, desk: Desk) -> None:
    (retried,) = running(database, 1, "2020-01-01", attempt=3, max_attempts=4)
    (buried,) = running(database, 1, "2020-01-01", attempt=4, max_attempts=4)
    (alive,) = running(database, 1, "2100-01-01", attempt=1)
    desk.chores._rescue()
    assert columns(database, retried, "state, version, lease_token") == ("scheduled", 2, None)
    assert columns(database, buried, "state, version") == ("dead", 2)
    assert columns(database, alive, "state, version") == ("running", 1)
    assert desk.seen == [events.JobsRescued(retried=1, buried=1)]
    assert "lease ran out" in columns(database, buried, "error")[0]


def published(database: Database, count: int = 1, **given: Any) -> list[uuid.UUID]:
    """Jobs that the broker confirmed a day ago, and whose queue is known."""
    ids = add(database, count, **given)
    database.execute(
        "UPDATE outbox.job SET state = 'published', published_at = clock_timestamp() - interval '1 day' "
        "WHERE id = ANY(%s)",
        ids,
    )
    database.execute(
        "INSERT INTO outbox.taker SELECT DISTINCT kind, 'queue of ' || kind FROM outbox.job "
        "ON CONFLICT DO NOTHING"
    )
    return ids


def test_what_the_broker_lost_is_sent_again_with_the_same_version(database: Database, desk: Desk) -> None:
    (job,) = published(database)
    desk.chores._redeliver()
    assert columns(database, job, "state, version, sends, pos, line") == ("pending", 1, 2, 2, 1)
    assert desk.seen == [events.JobsRedelivered(1)]
    assert desk.asked == ["queue of a.b"]


@pytest.mark.parametrize("depth", [1, None])
def test_what_may_wait_in_its_queue_is_not_sent_again(
    database: Database, desk: Desk, depth: int | None
) -> None:
    published(database)
    desk.depths["queue of a.b"] = depth
    desk.chores._redeliver()
    assert states(database) == {"published": 1}


def test_nothing_is_sent_again_before_its_time_which_doubles_each_time(
    database: Database, term: Term
) -> None:
    desk = Desk(database, term, redeliver_after=3600.0)
    (job,) = published(database)
    for sends, hours in ((1, 1), (2, 2), (5, 16)):
        database.execute(
            "UPDATE outbox.job SET state = 'published', sends = %s, "
            "published_at = clock_timestamp() - make_interval(hours => %s, mins => -1)",
            sends,
            hours,
        )
        desk.chores._redeliver()
        assert columns(database, job, "state, sends") == ("published", sends)
        age(database, "published_at", 120)
        desk.chores._redeliver()
        assert columns(database, job, "state, sends") == ("pending", sends + 1)


def test_what_a_handler_has_claimed_is_left_to_it(database: Database, desk: Desk) -> None:
    claimed, _lost = published(database, 2)
    with database.connect(autocommit=False) as handler:
        handler.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s::text, 0))", [claimed])
        desk.chores._redeliver()
        assert columns(database, claimed, "state") == ("published",)
        assert states(database) == {"published": 1, "pending": 1}
        handler.rollback()


def test_events_and_kinds_that_nobody_takes_are_not_sent_again(database: Database, desk: Desk) -> None:
    published(database, tracked=False)
    published(database, kind="untaken")
    database.execute("DELETE FROM outbox.taker WHERE kind = 'untaken'")
    desk.chores._redeliver()
    assert states(database) == {"published": 2}


def test_a_queue_is_asked_once_for_all_its_kinds(database: Database, desk: Desk) -> None:
    for kind in ("a", "b", "c"):
        published(database, 2, kind=kind)
    database.execute("UPDATE outbox.taker SET queue = 'one'")
    desk.chores._redeliver()
    assert desk.asked == ["one"]
    assert states(database) == {"pending": 6}


def test_finished_jobs_and_told_events_go_after_their_time_with_their_history(
    database: Database, term: Term
) -> None:
    desk = Desk(database, term, retention=3600.0)
    old = add(database, 3)
    database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2 WHERE id = %s", old[0])
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2 WHERE id = %s", old[1])
    database.execute("UPDATE outbox.job SET state = 'dead', version = 2 WHERE id = %s", old[2])
    (event,) = published(database, tracked=False)
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # a finished job's times never change
        connection.execute("UPDATE outbox.job SET finished_at = finished_at - interval '1 day'")
    (young,) = add(database)
    database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2 WHERE id = %s", young)
    desk.chores._prune_jobs()
    desk.chores._prune_events()
    assert {row[0] for row in database.execute("SELECT id FROM outbox.job")} == {old[2], young}
    assert {row[0] for row in database.execute("SELECT job_id FROM outbox.transition")} == {old[2], young}
    assert desk.seen == [events.JobsPruned(2), events.JobsPruned(1)]
    assert event not in {old[2], young}


def parked(database: Database, term: Term, count: int, **given: Any) -> list[uuid.UUID]:
    ids = add(database, count, **given)
    read = Ledger(term).keyless(after=0, upto=10**9, mine=[], rows=10**4, size=10**9).rows
    assert Ledger(term).park([each for each in read if each.id in ids], "nothing is bound") == count
    return ids


def test_parked_jobs_come_back_in_line_when_a_probe_got_through(database: Database, term: Term) -> None:
    ids = parked(database, term, 20)
    desk = Desk(database, term)
    (destination,) = desk.destinations.down
    assert not desk.chores._unpark()
    desk.destinations.probing(destination, sent=True)
    desk.destinations.confirmed(destination)
    desk.chores._unpark()
    assert [row[0] for row in database.execute("SELECT id FROM outbox.job ORDER BY pos")] == ids
    assert states(database) == {"pending": 20}
    assert not desk.destinations.down
    assert desk.seen == [events.JobsUnparked(20)]


def test_a_parked_job_that_was_locked_is_not_forgotten(database: Database, term: Term) -> None:
    locked, *_ = parked(database, term, 3)
    desk = Desk(database, term)
    (destination,) = desk.destinations.down
    desk.destinations.probing(destination, sent=True)
    desk.destinations.confirmed(destination)
    with database.connect(autocommit=False) as operator:
        operator.execute("SELECT FROM outbox.job WHERE id = %s FOR UPDATE", [locked])
        desk.chores._unpark()
        operator.rollback()
    assert states(database) == {"pending": 2, "parked": 1}
    assert not desk.destinations.down
    desk.chores._align()
    assert desk.destinations.to_probe() == [destination]


def test_a_chore_that_is_put_off_stops_no_other(database: Database, desk: Desk) -> None:
    (job,) = scheduled(database)
    running(database, 1, "2020-01-01", attempt=1)
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE outbox.taker")
        desk.chores.run()
        other.rollback()
    assert columns(database, job, "state") == ("pending",)
    assert states(database) == {"pending": 1, "scheduled": 1}


def test_nothing_is_done_before_it_is_due_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def chore(name: str) -> Callable[[], bool]:
        return lambda: done.append(name) is not None

    seconds = [1000.0]
    monkeypatch.setattr("relay.chores.clock", lambda: seconds[0])
    desk.chores._chores, desk.chores._due = [(0.2, chore("often")), (ALIGN_EVERY, chore("rare"))], [0.0, 0.0]
    for _ in range(11):
        desk.chores.run()
        seconds[0] += 0.1
    assert (done.count("often"), done.count("rare")) == (6, 1)


def test_an_old_terms_chores_change_nothing(database: Database, term: Term) -> None:
    scheduled(database)
    running(database, 1, "2020-01-01", attempt=1)
    published(database, kind="x.y")
    parked(database, term, 1)
    desk = Desk(database, term)
    before = states(database)
    database.execute("UPDATE outbox.leader SET token = gen_random_uuid()")
    for chore in (desk.chores._stage, desk.chores._rescue, desk.chores._redeliver):
        chore()
    assert Ledger(term).unpark(next(iter(desk.destinations.down)), 10) == []
    assert states(database) == before
