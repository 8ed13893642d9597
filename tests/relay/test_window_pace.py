"""The window's pace: strained, given back, and one at a time while a poisonous job is looked for. Pure."""

from __future__ import annotations

import pytest
from relays import row

from relay import window as module
from relay.window import FIRST_TIMEOUT, LONGEST_TIMEOUT, Window


def flown(count: int, window: Window, **columns: object) -> list[module.Row]:
    rows = [row(payload=b"12345", **columns) for _ in range(count)]
    for tag, each in enumerate(rows, 1):
        window.fly(tag, each)
    return rows


def window(rows: int = 10, size: int = 1000) -> Window:
    return Window(rows, size)


def test_unmarked_rows_do_not_stop_a_strained_window() -> None:
    w = window(rows=16)
    flown(4, w)
    w.acked(4, multiple=True)  # four rows that handlers hold: their marks wait
    for _ in range(10):
        w.strain()
    assert w.limit == 1
    assert w.room == 1


def test_unmarked_rows_fill_the_whole_in_the_end() -> None:
    w = window(rows=4)
    flown(4, w)
    w.acked(4, multiple=True)
    assert w.room == 0


def test_a_search_sends_one_at_a_time_until_every_suspect_has_answered() -> None:
    w = window()
    rows = flown(3, w)
    w.drop(search=True)
    assert w.search == {r.ident for r in rows}
    assert w.room == 1
    w.fly(1, rows[0])
    assert w.room == 0
    w.acked(1, multiple=False)
    assert w.room == 1
    w.fly(2, rows[1])
    w.refused(2, "too large")
    w.fly(3, rows[2])
    w.nacked(3, multiple=False)
    assert not w.search
    assert w.room == 9  # one is unmarked


def test_what_is_confirmed_of_others_does_not_end_a_search() -> None:
    w = window()
    flown(2, w)
    w.drop(search=True)
    for tag in range(1, 9):
        w.fly(tag, row())
        w.acked(tag, multiple=False)
    assert len(w.search) == 2


def test_a_timeout_halves_the_window_and_doubles_the_patience() -> None:
    w = window(rows=100)
    w.strain()
    assert (w.limit, w.timeout) == (50, 2 * FIRST_TIMEOUT)
    for _ in range(20):
        w.strain()
    assert (w.limit, w.timeout, w.room) == (1, LONGEST_TIMEOUT, 1)


def test_each_clean_window_gives_a_tenth_back() -> None:
    w = window(rows=100)
    w.strain()
    rows = flown(50, w)
    w.acked(50, multiple=True)
    assert w.limit == pytest.approx(56)
    assert w.timeout == pytest.approx(1.8 * FIRST_TIMEOUT)
    w.forget(rows)
    for _ in range(40):
        rows = flown(100, w)
        w.acked(100, multiple=True)
        w.forget(rows)
    assert (w.limit, w.timeout) == (100, FIRST_TIMEOUT)


def test_the_longest_waiting_message_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "clock", lambda: now)
    w = window()
    assert not w.overdue
    w.fly(1, row())
    now += FIRST_TIMEOUT - 1
    w.fly(2, row())
    now += 2
    assert w.overdue
    w.acked(1, multiple=False)
    assert not w.overdue


def test_a_pause_that_the_broker_asked_for_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "clock", lambda: now)
    w = window()
    w.fly(1, row())
    now += 3600
    w.excuse()
    assert not w.overdue
    now += FIRST_TIMEOUT + 1
    assert w.overdue, "only that pause"
