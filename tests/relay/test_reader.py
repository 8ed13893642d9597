"""Which rows are read, and when: nothing is passed over, whatever commits late or may not go yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from desk import Desk
from relays import add, row

from relay import reader as module
from relay.reader import FIRST_GULP, ROW, SLOW_READ, SWEEP_EVERY

if TYPE_CHECKING:
    from databases import Database

    from relay.ledger import Keyless
    from relay.term import Term


pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand: sweeps come when a test says so."""
    seconds = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return seconds


def test_both_lanes_share_the_room(database: Database, term: Term) -> None:
    add(database, 50)
    add(database, 50, key=lambda n: f"k{n}")
    desk = Desk(database, term, rows=10)
    keys = [each.key for each in desk.reader.fetch(desk.window)]
    assert sum(key is None for key in keys) == 5
    assert len(keys) == 10


def test_what_one_lane_leaves_the_other_takes(database: Database, term: Term) -> None:
    jobs = add(database, 50)
    assert Desk(database, term, rows=10).fetch() == jobs[:10]


def test_a_full_window_reads_nothing(database: Database, term: Term) -> None:
    add(database, 5, key=lambda n: f"k{n}")
    desk = Desk(database, term, rows=2, size=10)
    desk.fly([row(payload=b"x" * 10)])
    assert desk.fetch() == []
    desk.window.drop()
    desk.window.search.clear()
    desk.fly([row(), row()])
    assert desk.fetch() == []


def test_bytes_bound_both_lanes_together(database: Database, term: Term) -> None:
    add(database, 50, payload=b"x" * 100)
    add(database, 50, payload=b"x" * 100, key=lambda n: f"k{n}")
    desk = Desk(database, term, size=1000)
    rows = desk.reader.fetch(desk.window)
    assert sum(len(each.payload) for each in rows) <= 1000


def test_what_is_read_once_is_not_read_again_past_the_front(
    desk: Desk, database: Database, now: list[float]
) -> None:
    first = add(database, 10)
    assert desk.fetch() == first
    second = add(database, 5)
    assert desk.fetch() == second
    assert desk.fetch() == []


def test_what_was_not_sent_is_read_again_when_told(desk: Desk, database: Database, now: list[float]) -> None:
    jobs = add(database, 10)
    assert desk.fetch() == jobs
    assert desk.fetch() == []
    desk.reader.start_over()
    assert desk.fetch() == jobs


def test_a_suspect_is_read_alone_until_all_have_answered(desk: Desk, database: Database) -> None:
    jobs = add(database, 3)
    desk.fly(desk.reader.fetch(desk.window))
    desk.window.drop(search=True)
    add(database, 10)
    add(database, 10, key=lambda n: f"k{n}")
    assert [desk.publish() for _ in range(3)] == [[job] for job in jobs]
    assert len(desk.publish()) == 20


def test_a_search_ends_when_the_suspects_have_moved_on(desk: Desk, database: Database) -> None:
    add(database, 3)
    desk.fly(desk.reader.fetch(desk.window))
    desk.window.drop(search=True)
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2")
    jobs = add(database, 2)
    assert desk.publish() == []
    assert desk.publish() == jobs


def test_a_round_that_finds_nothing_has_caught_up(desk: Desk, database: Database, now: list[float]) -> None:
    add(database, 3)
    add(database, 3, key=lambda n: f"k{n}")
    desk.publish()
    assert not desk.reader.caught_up
    desk.publish()
    assert not desk.reader.caught_up, "behind the front nobody has looked yet"
    now[0] += SWEEP_EVERY
    desk.publish()
    assert desk.reader.caught_up
    desk.reader.look_afresh()
    assert not desk.reader.caught_up
    desk.publish()
    assert desk.reader.caught_up


def test_what_stays_unsent_is_not_caught_up(desk: Desk, database: Database, now: list[float]) -> None:
    add(database)
    for _ in range(5):
        desk.fetch()
        now[0] += SWEEP_EVERY
        assert not desk.reader.caught_up


def test_strict_has_one_of_a_key_in_flight(desk: Desk, database: Database) -> None:
    first, second = add(database, 2, key="k")
    desk.fly(desk.reader.fetch(desk.window))
    assert desk.fetch() == []
    desk.window.acked(1, multiple=False)
    assert desk.fetch() == [], "not before it is marked, either"
    desk.ledger.mark([row(id=first)])
    desk.window.forget(desk.window.unmarked())
    assert desk.fetch() == [second]


def test_a_read_brings_little_at_first_and_more_each_time(
    database: Database, term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole window over a narrow line would outlast the term, and the next term would read it again."""
    monkeypatch.undo()
    add(database, 300, payload=b"x" * 768)
    desk = Desk(database, term)
    reads = [len(desk.publish()) for _ in range(5)]
    assert reads[0] == FIRST_GULP // 768
    assert reads[:3] == sorted(set(reads[:3]))
    assert sum(reads) == 300


def test_a_slow_read_is_followed_by_a_smaller_one(database: Database, term: Term, now: list[float]) -> None:
    add(database, 300, payload=b"x" * 768)
    desk = Desk(database, term)
    desk.reader._gulp.size = FIRST_GULP
    lookup = desk.ledger.keyless

    def slowly(**bounds: Any) -> Keyless:
        now[0] += SLOW_READ + 4 * term.trip + 0.1
        return lookup(**bounds)

    desk.ledger.keyless = slowly  # type: ignore[method-assign]
    reads = [len(desk.publish()) for _ in range(5)]
    assert reads == sorted(reads, reverse=True)
    assert 0 < reads[-1] < reads[0] / 4


def test_a_long_way_is_no_narrow_one(database: Database, term: Term, now: list[float]) -> None:
    add(database, 300)
    desk = Desk(database, term)
    desk.reader._gulp.size = FIRST_GULP
    term.trip = SLOW_READ
    lookup = desk.ledger.keyless

    def from_afar(**bounds: Any) -> Keyless:
        now[0] += SLOW_READ
        return lookup(**bounds)

    desk.ledger.keyless = from_afar  # type: ignore[method-assign]
    desk.publish()
    assert len(desk.publish()) > FIRST_GULP // ROW
