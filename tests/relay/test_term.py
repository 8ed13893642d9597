"""One reign: its beat, its fence, its trust, and the interleavings that a late mark must lose."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from relays import add, row, states

from outbox.errors import LeadershipLost, Unreachable
from relay import term as module
from relay.backend import Backend
from relay.leader import ACQUIRE
from relay.ledger import MARK, Ledger
from relay.term import TRUST, others_ready, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from relay.leader import Election
    from relay.term import Term

BALLOT = {"digest": "same", "host": "h", "take_over": False}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand."""
    seconds = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return seconds


def depose(database: Database) -> None:
    """Begin another term, as after a failover that freed the lock."""
    database.execute("UPDATE outbox.leader SET term = term + 1, token = gen_random_uuid()")


def test_a_beat_is_written_when_it_is_due(database: Database, now: list[float], term: Term) -> None:
    def beaten() -> object:
        return database.value("SELECT heartbeat_at FROM outbox.leader")

    first = beaten()
    term.beat()
    assert beaten() == first
    now[0] += 1.1
    term.beat()
    assert beaten() > first  # type: ignore[operator]
    assert 0.9 < term.next_beat <= 1.0


def test_a_beat_learns_what_is_settled(database: Database, now: list[float], term: Term) -> None:
    add(database, 3)
    now[0] += 1.1
    term.beat()
    position, xid = term.settled
    assert position == 3
    assert xid > 0
    assert term.backend.row(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > %(xid)s", {"xid": xid}
    ) == (True,)


def test_a_beat_of_an_old_token_is_lost(database: Database, now: list[float], term: Term) -> None:
    depose(database)
    now[0] += 1.1
    with pytest.raises(LeadershipLost):
        term.beat()


def test_a_fence_of_an_old_token_is_lost(database: Database, term: Term) -> None:
    term.fence()
    depose(database)
    with pytest.raises(LeadershipLost):
        term.fence()


def test_a_fence_leaves_no_dead_row_and_is_flushed(database: Database, term: Term) -> None:
    query = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relid = 'outbox.leader'::regclass"
    before = database.value(query)
    began = database.value("SELECT pg_current_wal_insert_lsn()")
    for _ in range(20):
        term.fence()
    assert database.value("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", began)
    database.execute("SELECT pg_stat_force_next_flush()")
    assert database.value(query) == before


def test_trust_ends_before_anybody_may_depose(now: list[float], term: Term) -> None:
    assert term.trusted
    now[0] += TRUST * 8.0 - 0.1
    assert term.trusted
    now[0] += 0.2
    assert not term.trusted
    with pytest.raises(LeadershipLost, match="stood still"):
        term.fence()


def test_trust_is_counted_from_before_the_beat(
    now: list[float], term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = term.backend.row

    def slow(sql: str, params: dict[str, object] | None = None) -> object:
        now[0] += 4.0  # frozen between the statement and its answer
        return beat(sql, params)

    monkeypatch.setattr(term.backend, "row", slow)
    now[0] += 1.1
    term.beat()
    now[0] += TRUST * 8.0 - 4.0 + 0.1
    assert not term.trusted


def test_the_clock_goes_on_through_suspend() -> None:
    assert module.clock() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)


def test_a_release_frees_the_lock_and_tells_the_standbys(
    candidates: Callable[..., Election], win: Callable[[Election], Term], database: Database
) -> None:
    term = win(candidates())
    with database.connect() as standby:
        standby.execute("LISTEN outbox_leader")
        term.release()
        assert [notice.channel for notice in standby.notifies(timeout=5, stop_after=1)] == ["outbox_leader"]
    assert win(candidates()).number == 2


def test_a_release_of_a_dead_session_is_no_error(database: Database, term: Term) -> None:
    database.execute("SELECT pg_terminate_backend(%s)", term.backend.pid)
    term.release()
    with pytest.raises(Unreachable):
        term.beat() if term.next_beat == 0 else term.fence()


def test_the_doorbell_cannot_be_taken_past_a_silent_insert(database: Database, term: Term) -> None:
    with database.connect(autocommit=False) as writer:
        writer.execute("SELECT outbox.add('a.b', '{}')")
        assert not term.fall_asleep()
        writer.commit()
        assert term.fall_asleep()
        term.backend.row("LISTEN outbox")
        writer.execute("SELECT outbox.add('a.b', '{}')")
        writer.commit()
    assert eventually(term.backend.listen) == [("outbox", "")]
    term.wake_up()
    add(database)
    assert term.backend.row("SELECT 1") == (1,)
    assert term.backend.listen() == []


def test_ready_tells_others_and_not_oneself(database: Database, term: Term) -> None:
    other = Backend(database.dsn)
    assert not others_ready(term.backend)
    ready(term.backend, able=True)
    assert not others_ready(term.backend)
    assert others_ready(other)
    ready(other, able=True)
    assert others_ready(term.backend)
    ready(other, able=False)
    assert not others_ready(term.backend)
    other.close()


def mark_values(term: Term, database: Database) -> dict[str, object]:
    (job,) = add(database)
    return {"ids": [job], "versions": [1], "token": term.token, "term": term.number}


def test_an_open_mark_makes_the_next_term_wait(database: Database, term: Term) -> None:
    """The fence is FOR SHARE: with FOR KEY SHARE the bump would pass an open mark."""
    values = mark_values(term, database)
    with database.connect(autocommit=False) as old, database.connect() as new:
        old.execute(MARK, values)
        bumped = threading.Event()

        def bump() -> None:
            new.execute("UPDATE outbox.leader SET term = term + 1, token = gen_random_uuid()")
            bumped.set()

        thread = threading.Thread(target=bump)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
        eventually(lambda: database.value(waiting, new.info.backend_pid) == 1)
        assert not bumped.is_set()
        old.commit()
        thread.join(5)
    assert bumped.is_set()
    assert states(database) == {"published": 1}


def test_a_mark_that_waited_for_the_next_term_finds_nothing(database: Database, term: Term) -> None:
    values = mark_values(term, database)
    with database.connect(autocommit=False) as new, database.connect() as old:
        new.execute("UPDATE outbox.leader SET term = term + 1, token = gen_random_uuid()")
        marked: list[object] = []
        thread = threading.Thread(target=lambda: marked.append(old.execute(MARK, values).fetchall()))
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
        eventually(lambda: database.value(waiting, old.info.backend_pid) == 1)
        new.commit()
        thread.join(5)
    assert marked == [[]]
    assert states(database) == {"pending": 1}


def test_a_mark_of_an_old_term_changes_nothing_and_locks_nothing(database: Database, term: Term) -> None:
    values = mark_values(term, database)
    depose(database)
    with database.connect(autocommit=False) as zombie, database.connect() as other:
        assert zombie.execute(MARK, values).fetchall() == []
        assert other.execute("SELECT id FROM outbox.job FOR UPDATE NOWAIT").fetchall()
        zombie.rollback()


def test_nothing_of_an_old_term_changes_a_job(database: Database, term: Term) -> None:
    (job,) = add(database)
    depose(database)
    ledger = Ledger(term)
    taken = [row(id=job)]
    assert ledger.mark(taken) == (set(), {job})
    assert ledger.park(taken, "no") == 0
    assert ledger.bury(taken, "no") == 0
    assert ledger.unpark(taken[0].destination, 10) == []
    assert states(database) == {"pending": 1}


def test_a_session_without_the_lock_cannot_begin_a_term(database: Database, term: Term) -> None:
    with database.connect() as other:
        assert other.execute(ACQUIRE, BALLOT).fetchall() == []
    assert database.value("SELECT term FROM outbox.leader") == term.number
