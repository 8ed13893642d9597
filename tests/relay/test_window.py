"""The window: what flies, what is confirmed, how much more may go. Pure."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import pytest
from relays import row

from relay.window import Window

if TYPE_CHECKING:
    from relay import window as module


def flown(count: int, window: Window, **columns: object) -> list[module.Row]:
    rows = [row(payload=b"12345", **columns) for _ in range(count)]
    for tag, each in enumerate(rows, 1):
        window.fly(tag, each)
    return rows


def window(rows: int = 10, size: int = 1000) -> Window:
    return Window(rows, size)


def test_an_ack_confirms_its_own_message_and_no_other() -> None:
    w = window()
    rows = flown(3, w)
    w.acked(2, multiple=False)
    assert [r.id for r in w.take().confirmed] == [rows[1].id]
    assert w.flying == 2
    assert [r.id for r in w.unmarked()] == [rows[1].id]


def test_a_late_ack_of_the_first_does_not_confirm_the_second_which_is_nacked() -> None:
    w = window()
    first, second = flown(2, w)
    w.acked(1, multiple=False)
    w.nacked(2, multiple=False)
    outcomes = w.take()
    assert [r.id for r in outcomes.confirmed] == [first.id]
    assert [r.id for r in outcomes.nacked] == [second.id]
    assert [r.id for r in w.unmarked()] == [first.id]


def test_multiple_settles_all_up_to_its_tag_once() -> None:
    w = window()
    rows = flown(5, w)
    w.acked(2, multiple=False)
    w.acked(4, multiple=True)
    w.acked(4, multiple=True)
    assert {r.id for r in w.take().confirmed} == {r.id for r in rows[:4]}
    assert w.flights() == [(5, rows[4])]


def test_a_tag_that_nobody_sent_changes_nothing() -> None:
    w = window()
    flown(1, w)
    w.acked(7, multiple=False)
    assert not w.take()
    assert w.flying == 1


def test_a_returned_message_is_unroutable_although_it_is_acked() -> None:
    w = window()
    rows = flown(2, w)
    w.returned(str(rows[0].id), "nothing is bound")
    w.acked(2, multiple=True)
    outcomes = w.take()
    assert [(r.id, reason) for r, reason in outcomes.unroutable] == [(rows[0].id, "nothing is bound")]
    assert [r.id for r in outcomes.confirmed] == [rows[1].id]
    assert [r.id for r in w.unmarked()] == [rows[1].id]


def test_a_return_is_forgotten_with_the_connection() -> None:
    w = window()
    (r,) = flown(1, w)
    w.returned(str(r.id), "nothing is bound")
    w.drop()
    w.fly(1, r)
    w.acked(1, multiple=False)
    assert len(w.take().confirmed) == 1


def test_multiple_of_the_shared_channel_settles_no_probe() -> None:
    w = window()
    probe = row()
    w.fly(-1, probe)
    flown(2, w)
    w.acked(2, multiple=True)
    assert w.flights() == [(-1, probe)]
    w.acked(-1, multiple=False)
    assert w.flying == 0


def test_only_names_the_single_message_of_the_shared_channel() -> None:
    w = window()
    assert w.only is None
    w.fly(-1, row())
    assert w.only is None
    w.fly(1, row())
    assert w.only == 1
    w.fly(2, row())
    assert w.only is None


@pytest.mark.parametrize("verb", ["refused", "turned_away"])
def test_what_the_broker_refuses_is_settled_with_its_words(verb: str) -> None:
    w = window()
    rows = flown(2, w)
    getattr(w, verb)(1, "no")
    outcomes = w.take()
    settled = outcomes.refused if verb == "refused" else outcomes.unroutable
    assert settled == [(rows[0], "no")]
    assert not w.unmarked()
    assert w.flights() == [(2, rows[1])]


def test_room_counts_what_flies_and_what_is_unmarked() -> None:
    w = window(rows=10)
    rows = flown(4, w)
    assert w.room == 6
    w.acked(4, multiple=True)
    assert w.room == 6
    w.forget(rows[:3])
    assert w.room == 9


def test_bytes_are_counted_while_they_fly_and_not_kept_afterwards() -> None:
    w = window(size=12)
    flown(2, w)
    assert w.room_bytes == 2
    w.acked(1, multiple=False)
    assert w.room_bytes == 7
    assert [r.payload for r in w.unmarked()] == [b""]
    w.drop()
    assert w.room_bytes == 12


def test_room_is_never_negative() -> None:
    w = window(rows=2, size=3)
    flown(3, w)
    assert (w.room, w.room_bytes) == (0, 0)


def test_ids_and_keys_of_all_in_memory_are_left_out_of_a_fetch() -> None:
    w = window()
    rows = [*flown(2, w, key="k"), row(key="j")]
    w.fly(3, rows[2])
    w.acked(1, multiple=False)
    assert set(w.ids()) == {r.id for r in rows}
    assert sorted(w.keys()) == ["j", "k"]


def test_memory_is_by_id_and_version() -> None:
    w = window()
    job = uuid.uuid4()
    old, new = row(id=job, version=1), row(id=job, version=3)
    w.fly(1, old)
    w.acked(1, multiple=False)
    w.forget([new])
    assert [r.ident for r in w.unmarked()] == [(job, 1)]
    w.forget([old])
    assert not w.unmarked()


def test_a_drop_makes_what_flew_unknown_and_keeps_what_is_confirmed() -> None:
    w = window()
    rows = flown(3, w)
    w.acked(1, multiple=False)
    assert w.drop() == 2
    assert w.flying == 0
    assert w.suspects == {rows[1].ident, rows[2].ident}
    assert [r.ident for r in w.unmarked()] == [rows[0].ident]
    assert w.room == 9


def test_a_suspect_is_cleared_by_its_answer() -> None:
    w = window()
    rows = flown(2, w)
    w.drop()
    w.fly(1, rows[0])
    w.acked(1, multiple=False)
    assert w.suspects == {rows[1].ident}


def test_any_order_of_answers_gives_each_message_its_own() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        w = window(rows=200, size=10_000)
        rows = {tag: row(payload=b"x" * chance.randrange(9)) for tag in range(1, 101)}
        for tag, each in rows.items():
            w.fly(tag, each)
        expected = _answer(w, rows, chance)
        outcomes = w.take()
        got = {r.id: "confirmed" for r in outcomes.confirmed}
        got |= {r.id: "nacked" for r in outcomes.nacked}
        got |= {r.id: "returned" for r, _ in outcomes.unroutable}
        assert got == expected, seed
        assert (w.flying, w.room_bytes) == (0, 10_000), seed


def _answer(w: Window, rows: dict[int, module.Row], chance: random.Random) -> dict[uuid.UUID, str]:
    expected: dict[uuid.UUID, str] = {}
    left = set(rows)
    while left:
        tag = chance.choice(sorted(left))
        multiple, nack = chance.random() < 0.1, chance.random() < 0.2
        settled = {known for known in left if known <= tag} if multiple else {tag}
        for known in settled:
            returned = not nack and chance.random() < 0.1
            if returned:
                w.returned(str(rows[known].id), "no")
            expected[rows[known].id] = "nacked" if nack else "returned" if returned else "confirmed"
        (w.nacked if nack else w.acked)(tag, multiple=multiple)
        left -= settled
    return expected
