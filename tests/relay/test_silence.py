"""Of which destinations nothing is heard, and what that changes in the window. Pure."""

from __future__ import annotations

import pytest
from relays import row

from relay import destinations as destinations_module
from relay import silence as silence_module
from relay import window as window_module
from relay.destinations import Admission, Destinations
from relay.silence import CROWD, LASTING, QUIET, STUCK
from relay.window import FIRST_TIMEOUT, Window

MUTE, LOUD = "mute.kind", "loud.kind"
SILENT = row(kind=MUTE).destination


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand."""
    seconds = [1000.0]
    for module in (silence_module, window_module, destinations_module):
        monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return seconds


@pytest.fixture
def w(now: list[float]) -> Window:
    return Window(10, 1000)


def fly(w: Window, kind: str, *tags: int) -> None:
    for tag in tags:
        w.fly(tag, row(kind=kind, payload=b"12345"))


def quiet(w: Window, now: list[float], seconds: float = QUIET + 0.1) -> None:
    """Let time pass, and look."""
    now[0] += seconds
    w.set_aside()


def test_a_full_window_of_one_silent_destination_makes_room_for_the_others(
    w: Window, now: list[float]
) -> None:
    fly(w, MUTE, *range(1, 11))
    w.set_aside()
    assert (w.room, list(w.silent)) == (0, [])
    quiet(w, now)
    assert list(w.silent) == [SILENT]
    assert (w.room, w.room_bytes, w.flying, len(w)) == (10, 1000, 0, 10)
    assert len(w.ids()) == 10, "in flight as before: nobody sends them again"


def test_a_destination_of_which_something_is_heard_is_not_silent(w: Window, now: list[float]) -> None:
    fly(w, MUTE, *range(1, 9))
    for tag in range(1, 7):
        quiet(w, now, 0.8)
        w.acked(tag, multiple=False)
    assert not w.silent


def test_its_answer_is_believed_and_ends_the_silence(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1, 2, 3)
    quiet(w, now)
    w.acked(2, multiple=False)
    assert [r.kind for r in w.take().confirmed] == [MUTE]
    assert not w.silent
    assert w.flying == 2
    assert not w.overdue, "what is left has its whole time again"
    w.acked(3, multiple=True)
    assert len(w.take().confirmed) == 2


def test_what_is_set_aside_is_bounded_by_a_window(w: Window, now: list[float]) -> None:
    fly(w, MUTE, *range(1, 11))
    quiet(w, now)
    fly(w, LOUD, *range(11, 21))
    quiet(w, now)
    assert (w.room, len(w)) == (0, 20)


def test_a_silent_destination_among_others_makes_nothing_overdue(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1)
    quiet(w, now)
    fly(w, LOUD, 2)
    w.acked(2, multiple=False)
    quiet(w, now, 10 * FIRST_TIMEOUT)
    assert not w.overdue
    fly(w, LOUD, 3)
    quiet(w, now, FIRST_TIMEOUT + 1)
    assert w.overdue, "now the others wait too"


def test_when_all_are_silent_it_is_the_broker(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1)
    fly(w, LOUD, 2)
    quiet(w, now, FIRST_TIMEOUT - 1)
    assert not w.overdue
    quiet(w, now, 2)
    assert w.overdue
    assert not w.unheard


def test_an_answer_to_what_left_before_proves_nothing(w: Window, now: list[float]) -> None:
    """A frozen broker that thaws answers one destination a moment before the other."""
    fly(w, LOUD, 1)
    now[0] += 0.01
    fly(w, MUTE, 2)
    quiet(w, now, 2 * LASTING)
    w.acked(1, multiple=False)
    w.set_aside()
    quiet(w, now, 2 * QUIET)
    assert not w.unheard


def test_a_silence_lasts_when_it_is_long_and_proven_for_a_while(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1)
    quiet(w, now)
    fly(w, LOUD, 2)
    quiet(w, now, LASTING)
    w.acked(2, multiple=False)
    w.set_aside()
    assert not w.unheard, "the answer may be on its way"
    quiet(w, now)
    assert w.unheard == [SILENT]
    w.acked(1, multiple=False)
    assert not w.unheard


def test_a_drop_and_a_pause_forget_all_silence(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1, 2)
    quiet(w, now)
    w.excuse()
    assert (list(w.silent), w.flying) == ([], 2)
    quiet(w, now)
    assert w.silent
    assert w.drop() == 2
    assert not w.silent
    assert (w.flying, w.room, w.room_bytes) == (0, 10, 1000)


def test_a_search_does_not_wait_for_a_silent_destination(w: Window, now: list[float]) -> None:
    fly(w, MUTE, 1)
    w.drop(search=True)
    (ident,) = w.search
    w.fly(2, row(id=ident[0], kind=MUTE))
    quiet(w, now)
    assert not w.search
    assert w.room == 10


def test_jobs_of_a_silent_destination_wait_and_those_of_a_mute_one_are_parked(now: list[float]) -> None:
    destinations, job = Destinations(), row(kind=MUTE)
    assert destinations.admit(job, {SILENT}) is Admission.LEAVE
    assert destinations.admit(row(kind=LOUD), {SILENT}) is Admission.SEND
    news = destinations.unheard(SILENT, "mute")
    assert news is not None
    assert destinations.unheard(SILENT, "mute") is None
    assert destinations.admit(job, {SILENT}) is Admission.PARK
    assert destinations.to_probe() == [], "what flies is the probe"
    assert destinations.confirmed(SILENT)
    assert destinations.to_recover() == [SILENT]
    assert destinations.admit(job) is Admission.SEND


def test_after_a_connection_that_ended_in_its_silence_one_job_tries_it_apart_from_all_others(
    w: Window, now: list[float]
) -> None:
    fly(w, MUTE, 1, 2)
    quiet(w, now)
    w.drop()
    destinations, job = Destinations(), row(kind=MUTE)
    for destination in w.mute:
        destinations.mute(destination)
    assert destinations.admit(row(kind=LOUD)) is Admission.SEND
    assert destinations.admit(job, may_try=False) is Admission.LEAVE
    assert [destinations.admit(job) for _ in range(2)] == [Admission.TRY, Admission.LEAVE]
    destinations.confirmed(SILENT)
    assert [destinations.admit(job) for _ in range(2)] == [Admission.SEND, Admission.SEND]


@pytest.mark.parametrize(("count", "stuck"), [(CROWD, False), (CROWD + 1, True)])
def test_a_crowd_before_a_silent_destination_stuffs_the_connection(
    count: int, now: list[float], *, stuck: bool
) -> None:
    w = Window(100, 1000)
    fly(w, MUTE, *range(1, count + 1))
    now[0] += 0.01
    fly(w, LOUD, 50)
    w.acked(50, multiple=False)
    quiet(w, now)
    assert not w.stuck
    quiet(w, now, STUCK)
    assert w.stuck is stuck


def test_one_that_falls_mute_while_it_comes_back_is_down_again(now: list[float]) -> None:
    destinations = Destinations()
    destinations.unheard(SILENT, "mute")
    destinations.confirmed(SILENT)
    assert destinations.unheard(SILENT, "mute again")
    assert destinations.to_recover() == []
    destinations.lost()
    now[0] += destinations.next_look
    assert destinations.to_probe() == [SILENT]
