"""Walks through all that is pending: after too many arrivals, for too many keys, and now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desk import Desk
from relays import add, row

from relay import chores, keys

if TYPE_CHECKING:
    import uuid

    from databases import Database

    from relay.term import Term


pytestmark = pytest.mark.usefixtures("unhurried")


def floors(desk: Desk) -> dict[str, int]:
    return dict(desk.reader._keys._floors)


def test_more_arrivals_than_a_look_takes_in_are_walked_through(
    desk: Desk, database: Database, walk_clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ARRIVALS", 50)
    monkeypatch.setattr(keys, "STRIDE", 20)
    assert desk.publish() == []
    jobs = add(database, 200, key=lambda n: f"k{n % 100}")
    published: list[uuid.UUID] = []
    for _ in range(40):
        published += desk.publish()
        walk_clock[0] += keys.WALK_AGAIN
    assert set(published) == set(jobs)
    assert len(published) == len(jobs)
    assert desk.reader._keys._whole


def test_what_was_left_out_still_goes_before_what_came_later(
    desk: Desk, database: Database, walk_clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.publish() == []
    monkeypatch.setattr(keys, "ARRIVALS", 2)
    *taken, left_out = add(database, 3, key=lambda n: "xyk"[n])
    assert desk.publish() == taken
    (later,) = add(database, key="k")
    assert [desk.publish(), desk.publish()] == [[left_out], [later]]


@pytest.mark.parametrize("held", [0, 35])
def test_more_keys_than_are_remembered(
    database: Database, term: Term, walk_clock: list[float], monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """Those that are held give way; the lane comes to an end all the same."""
    monkeypatch.setattr(keys, "MOST", 10)
    desk = Desk(database, term)
    desk.ledger.park([row(id=job) for job in add(database, held, key=lambda n: f"k{n}")], "down")
    jobs = add(database, 100, key=lambda n: f"k{n % 50}")
    published: list[uuid.UUID] = []
    for _ in range(100):
        published += desk.publish()
        walk_clock[0] += keys.WALK_AGAIN
        assert len(floors(desk)) <= 10
    assert set(published) == {job for n, job in enumerate(jobs) if n % 50 >= held}
    assert len(published) == len(set(published))
    desk.reader.look_afresh()
    while not desk.reader._keys.clear:
        assert desk.publish() == []
        walk_clock[0] += keys.WALK_AGAIN


def test_a_walk_finds_what_nobody_told_of(desk: Desk, database: Database, walk_clock: list[float]) -> None:
    (job,) = add(database, key="k", state="scheduled", available_at="2000-01-01")
    assert desk.publish() == []
    desk.term.backend.rows(chores.STAGE, {"token": desk.term.token, "rows": 500})
    assert desk.publish() == []
    walk_clock[0] += keys.WALK_EVERY
    assert desk.publish() == [job]


def test_a_walk_goes_in_slices(
    desk: Desk, database: Database, walk_clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "STRIDE", 10)
    monkeypatch.setattr(keys, "SLOW", 0.0)
    for n in range(5):
        add(database, 15, key=lambda i, n=n: f"k{n} {i}")
    met = []
    while desk.reader.passing or not met:
        assert desk.publish() is not None
        met.append(len(floors(desk)))
    assert desk.reader._keys._whole
    assert max(met) < 75
