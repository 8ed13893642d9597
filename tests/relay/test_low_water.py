"""The low water and the sweep: what commits late is found, what is settled is never looked at again."""

from __future__ import annotations

import random
import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from desk import Desk
from relays import add

from relay import reader as module
from relay.reader import SWEEP_EVERY

if TYPE_CHECKING:
    from databases import Database

    from relay.term import Term


pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand: sweeps come when a test says so."""
    seconds = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return seconds


def test_a_sweep_finds_what_committed_late(desk: Desk, database: Database, now: list[float]) -> None:
    with database.connect(autocommit=False) as slow:
        slow.execute("SELECT outbox.add('a.b', '{}')")
        quick = add(database, 3)
        assert desk.publish() == quick
        slow.commit()
    assert desk.fetch() == [], "not at every round"
    now[0] += SWEEP_EVERY
    assert len(desk.publish()) == 1


def test_a_late_job_of_a_key_is_found_at_once_and_comes_first(
    desk: Desk, database: Database, now: list[float]
) -> None:
    with database.connect(autocommit=False) as slow:
        slow.execute("SELECT outbox.add('a.b', '{}', key => 'k')")
        add(database, 3, key="k")
        slow.commit()
    (head,) = desk.reader.fetch(desk.window)
    assert head.pos == 1


def test_the_low_water_never_passes_an_open_transaction(
    desk: Desk, database: Database, now: list[float]
) -> None:
    with database.connect(autocommit=False) as slow:
        slow.execute("SELECT outbox.add('a.b', '{}')")
        for _ in range(5):
            add(database, 10)
            desk.beat()
            now[0] += 1
            desk.publish()
        assert desk.reader._low == 0
        slow.commit()
    now[0] += 1
    assert len(desk.publish()) == 1
    desk.beat()
    for _ in range(200):
        now[0] += 1
        desk.publish()
        if desk.reader._low == 51:
            break
    assert desk.reader._low == 51


def test_the_low_water_stays_below_what_is_pending(desk: Desk, database: Database, now: list[float]) -> None:
    jobs = add(database, 10)
    rows = desk.reader.fetch(desk.window)
    desk.fly(rows)
    desk.ledger.mark([each for each in rows if each.id != jobs[4]])
    desk.beat()
    for _ in range(20):
        now[0] += 1
        desk.fetch()
    assert desk.reader._low <= 4


def test_what_may_not_go_yet_does_not_hide_what_lies_behind(
    database: Database, term: Term, now: list[float]
) -> None:
    """A destination rests, and its jobs stay: more of them than a window holds."""
    desk = Desk(database, term, rows=20)
    resting = set(add(database, 200))
    with database.connect(autocommit=False) as slow:
        slow.execute("SELECT outbox.add('late.kind', '{}')")
        while desk.fetch():
            pass
        tail = add(database, 1)
        assert desk.fetch() == tail
        slow.commit()
    found: set[uuid.UUID] = set()
    for _ in range(60):
        now[0] += SWEEP_EVERY
        found |= set(desk.fetch())
    late = database.value("SELECT id FROM outbox.job WHERE kind = 'late.kind'")
    assert late in found
    assert resting <= found


def test_a_sweep_leaves_room_for_new_jobs(database: Database, term: Term, now: list[float]) -> None:
    desk = Desk(database, term, rows=20)
    add(database, 100)
    while desk.fetch():
        pass
    new = add(database, 5)
    now[0] += SWEEP_EVERY
    assert set(new) <= set(desk.fetch())


def test_a_window_full_of_new_jobs_leaves_room_for_late_ones(
    database: Database, term: Term, now: list[float]
) -> None:
    desk = Desk(database, term, rows=10)
    with database.connect(autocommit=False) as slow:
        slow.execute("SELECT outbox.add('late.kind', '{}')")
        add(database, 500)
        desk.publish()
        slow.commit()
    late = database.value("SELECT id FROM outbox.job WHERE kind = 'late.kind'")
    published: list[uuid.UUID] = []
    for _ in range(5):
        now[0] += SWEEP_EVERY
        published += desk.publish()
    assert late in published


def test_a_sequence_that_begins_again_is_followed(desk: Desk, database: Database, now: list[float]) -> None:
    add(database, 50)
    desk.publish()
    desk.beat()
    now[0] += 1
    desk.publish()
    database.execute("TRUNCATE outbox.job RESTART IDENTITY")
    jobs = add(database, 3)
    desk.beat()
    assert desk.publish() == jobs


def write(database: Database, seed: str, committed: set[uuid.UUID]) -> None:
    """Insert in transactions that take their time, and sometimes end in nothing."""
    chance, pause = random.Random(seed), threading.Event()
    insert = "INSERT INTO outbox.job (id, kind, key, payload) VALUES (%s, 'a.b', %s, '')"
    with database.connect(autocommit=False) as connection:
        for _ in range(40):
            ids = [uuid.uuid4() for _ in range(chance.randrange(1, 6))]
            for each in ids:
                connection.execute(
                    insert, [each, f"k{chance.randrange(5)}" if chance.random() < 0.3 else None]
                )
                pause.wait(chance.choice([0, 0, 0, 0.05 * chance.random()]))
            if chance.random() < 0.2:
                connection.rollback()
            else:
                connection.commit()
                committed.update(ids)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_among_writers_of_any_speed(database: Database, term: Term, seed: int) -> None:
    """Writers commit late, out of order, or never; a reader with a low-water mark publishes each job once."""
    desk, committed = Desk(database, term), set[uuid.UUID]()
    writers = [
        threading.Thread(target=write, args=(database, f"{seed} {number}", committed)) for number in range(6)
    ]
    for writer in writers:
        writer.start()
    published: list[uuid.UUID] = []
    while any(writer.is_alive() for writer in writers):
        desk.beat()
        published += desk.publish()
    desk.reader.look_afresh()
    while not desk.reader.caught_up:
        published += desk.publish()
    assert len(published) == len(set(published))
    assert set(published) == committed
    assert desk.reader._low > 0
