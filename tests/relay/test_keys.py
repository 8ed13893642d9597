"""The lane of jobs with a key: which are read, in what order, and what is remembered of whom."""

from __future__ import annotations

import random
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from desk import Desk
from relays import add, row

from relay import chores

if TYPE_CHECKING:
    import psycopg
    from databases import Database

    from relay.term import Term

ADD = "INSERT INTO outbox.job (id, kind, key, payload) VALUES (%s, 'a.b', %s, '{}')"
RETRY = "UPDATE outbox.job SET state = 'scheduled', version = version + 1, attempt = 1 WHERE id = %s"


pytestmark = pytest.mark.usefixtures("unhurried")


def insert(writer: psycopg.Connection, key: str = "k") -> uuid.UUID:
    job = uuid.uuid4()
    writer.execute(ADD, [job, key])
    return job


def stage(desk: Desk, job: uuid.UUID) -> None:
    """Have the leader stage what is scheduled, and tell the reader."""
    desk.term.backend.rows(
        "UPDATE outbox.job SET available_at = clock_timestamp() - interval '1 s' WHERE id = %(id)s",
        {"id": job},
    )
    found = desk.term.backend.rows(chores.STAGE, {"token": desk.term.token, "rows": 500})
    desk.ledger.note((key, line) for key, line in found)


def floors(desk: Desk) -> dict[str, int]:
    return dict(desk.reader._keys._floors)


def test_one_head_a_key_is_read(desk: Desk, database: Database) -> None:
    jobs = add(database, 9, key=lambda n: "abc"[n % 3])
    assert [desk.publish() for _ in range(4)] == [jobs[:3], jobs[3:6], jobs[6:], []]
    assert desk.reader.caught_up


def test_pipelined_reads_many_of_a_key(database: Database, term: Term) -> None:
    jobs = add(database, 40, key="k")
    desk = Desk(database, term, order="pipelined")
    for at in (0, 16, 32):
        rows = desk.reader.fetch(desk.window)
        assert [each.id for each in rows] == jobs[at : at + 16]
        desk.fly(rows)
    assert desk.fetch() == []
    desk.window.drop()
    assert desk.fetch() == jobs[:16], "what is unknown now has never been passed by its floor"


def test_keys_that_found_no_room_come_first_the_next_time(database: Database, term: Term) -> None:
    jobs = add(database, 10, key=lambda n: f"k{n}")
    desk = Desk(database, term, rows=8)
    assert [desk.publish(), desk.publish(), desk.publish()] == [jobs[:4], jobs[4:8], jobs[8:]]


def test_bytes_are_bounded_in_sql_and_one_large_job_still_goes(database: Database, term: Term) -> None:
    jobs = add(database, 5, key=lambda n: f"k{n}", payload=lambda n: b"x" * (900 if n == 4 else 100))
    desk = Desk(database, term, size=250)
    assert [desk.publish() for _ in range(3)] == [jobs[:2], jobs[2:4], jobs[4:]]


def test_held_keys_hide_no_other(database: Database, term: Term) -> None:
    """A round looks at so many keys a time; the next read goes on behind them."""
    desk = Desk(database, term, rows=20)
    held = add(database, 300, key=lambda n: f"k{n:03}")
    desk.ledger.park([row(id=job) for job in held], "down")
    add(database, 300, key=lambda n: f"k{n:03}")
    (free,) = add(database, key="z")
    found: list[uuid.UUID] = []
    reads = 0
    while not found and reads < 10:
        found, reads = desk.fetch(), reads + 1
    assert (found, reads) == ([free], 4)
    reads = 0
    while desk.reader.passing:
        assert desk.fetch() in ([], [free])
        reads += 1
        assert reads < 10


def test_a_parked_or_retried_job_holds_those_behind_it(desk: Desk, database: Database) -> None:
    first, second, third = add(database, 3, key="k")
    assert desk.fetch() == [first]
    desk.ledger.park([row(id=first)], "down")
    assert desk.fetch() == []
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 3 WHERE id = %s", first)
    assert desk.fetch() == [second]
    database.execute(RETRY, second)
    assert desk.fetch() == []
    database.execute("UPDATE outbox.job SET state = 'dead', version = version + 1 WHERE id = %s", second)
    assert desk.fetch() == [third], "a dead one does not hold"


def test_an_applications_delay_does_not_hold(desk: Desk, database: Database) -> None:
    add(database, key="k", state="scheduled", available_at="2100-01-01")
    jobs = add(database, key="k")
    assert desk.fetch() == jobs


def test_what_is_staged_again_goes_before_what_came_later(desk: Desk, database: Database) -> None:
    first, second, third = add(database, 3, key="k")
    assert desk.publish() == [first]
    database.execute(RETRY, first)
    assert desk.publish() == [], "it holds the second one"
    stage(desk, first)
    assert [desk.publish() for _ in range(4)] == [[first], [second], [third], []]


def test_what_is_unparked_or_probed_is_read_without_a_walk(
    desk: Desk, database: Database, walk_clock: list[float]
) -> None:
    first, second = add(database, 2, key=lambda n: f"k{n}")
    desk.ledger.park([row(id=first), row(id=second)], "down")
    assert desk.publish() == []
    probe = desk.ledger.stage_probe(row().destination, [])
    assert probe is not None
    assert desk.publish() == [probe.id]
    desk.ledger.unpark(row().destination, 10)
    assert desk.publish() == [second]


def test_serial_holds_a_key_until_its_job_is_final(database: Database, term: Term) -> None:
    desk = Desk(database, term, order="serial")
    first, second = add(database, 2, key="k")
    assert desk.publish() == [first]
    assert desk.publish() == []
    database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2 WHERE id = %s", first)
    assert desk.publish() == [second]


def test_serial_waits_for_no_event(database: Database, term: Term) -> None:
    desk = Desk(database, term, order="serial")
    first, second = add(database, 2, key="k", tracked=False)
    assert [desk.publish(), desk.publish()] == [[first], [second]]


@pytest.mark.parametrize("key", ["ключ", "😀", "a'b", "A", "\x7f", "k" * 1000])
def test_any_key_is_known_by_its_bytes(desk: Desk, database: Database, key: str) -> None:
    first, second = add(database, 2, key=key)
    other = add(database, key=key + " ")
    assert [set(desk.publish()), desk.publish(), desk.publish()] == [{first, *other}, [second], []]


def test_what_commits_late_goes_before_what_began_after_it(desk: Desk, database: Database) -> None:
    """The floor is past its place by then, and past it again while the round that saw its end goes on."""
    with database.connect(autocommit=False) as slow:
        late = insert(slow)
        (quick,) = add(database, key="k")
        assert [desk.publish(), desk.publish()] == [[quick], []]
        slow.commit()
    (after,) = add(database, key="k")
    assert [desk.publish() for _ in range(3)] == [[late], [after], []]


def test_what_comes_between_a_look_and_a_lookup_waits_for_the_next(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = desk.reader._keys
    with database.connect(autocommit=False) as slow:
        late = insert(slow)
        (quick,) = add(database, key="k")
        rows = desk.reader.fetch(desk.window)
        assert [each.id for each in rows] == [quick]
        desk.fly(rows)
        desk.confirm()
        walk, after = lane._walk, list[uuid.UUID]()

        def meanwhile() -> None:
            walk()
            slow.commit()
            after.extend(add(database, key="k"))

        monkeypatch.setattr(lane, "_walk", meanwhile)
        assert desk.publish() == [], "the later one is seen, and the earlier one lies below the floor"
        monkeypatch.setattr(lane, "_walk", walk)
    assert [desk.publish() for _ in range(3)] == [[late], after, []]


def test_a_restored_dump_is_read_although_its_xids_are_of_another_cluster(
    desk: Desk, database: Database, walk_clock: list[float]
) -> None:
    with database.connect() as restore:
        restore.execute("SET session_replication_role = replica")
        restore.execute(
            "INSERT INTO outbox.job (xid, id, kind, key, payload) "
            "SELECT '4611686018427387904', gen_random_uuid(), 'a.b', 'r' || n, '{}' "
            "FROM generate_series(1, 5) n"
        )
    assert len(desk.publish()) == 5
    new = add(database, 3, key=lambda n: f"k{n}")
    assert desk.publish() == new


def test_a_key_with_nothing_to_send_is_forgotten_and_a_late_one_found_at_its_floor(
    desk: Desk, database: Database
) -> None:
    add(database, 2, key="k")
    assert [len(desk.publish()) for _ in range(3)] == [1, 1, 0]
    assert floors(desk) == {}
    add(database, key="k")
    assert len(desk.publish()) == 1
    assert floors(desk) == {"k": 3}


def test_order_holds_among_writers_of_any_speed(database: Database, term: Term) -> None:
    """Of two jobs of a key whose transactions did not overlap the first goes first, whatever else is open."""
    desk, done = Desk(database, term), dict[uuid.UUID, tuple[str, float, float]]()
    writers = [threading.Thread(target=write, args=(database, n, done)) for n in range(6)]
    for writer in writers:
        writer.start()
    published: list[uuid.UUID] = []
    while any(writer.is_alive() for writer in writers):
        published += desk.publish()
    desk.reader.look_afresh()
    while not desk.reader._keys.clear:
        published += desk.publish()
    assert len(published) == len(set(published))
    assert set(published) == set(done)
    passed = [
        (job, later)
        for at, later in enumerate(published)
        for job in published[at + 1 :]
        if done[job][0] == done[later][0] and done[job][2] < done[later][1]
    ]
    assert passed == []


def write(database: Database, seed: int, done: dict[uuid.UUID, tuple[str, float, float]]) -> None:
    """Insert in transactions that take their time; note when each began and ended, by one clock."""
    chance, pause = random.Random(seed), threading.Event()
    with database.connect(autocommit=False) as writer:
        for _ in range(60):
            began: Any = writer.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
            key = f"k{chance.randrange(3)}"
            jobs = []
            for _ in range(chance.randrange(1, 4)):
                pause.wait(chance.choice([0, 0, 0.02 * chance.random()]))
                jobs.append(insert(writer, key))
            if chance.random() < 0.15:
                writer.rollback()
                continue
            writer.commit()
            ended: Any = writer.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
            writer.rollback()
            done.update(dict.fromkeys(jobs, (key, began[0], ended[0])))
