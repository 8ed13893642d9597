"""Which delivery runs when. The crew does what a test tells it to, so every order can be looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from outbox import message
from outbox.consumer.dispatcher import PATIENCE, Dispatcher
from outbox.runner.delivery import Ack, Alone, Delivery, Keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.runner.delivery import Verdict


class Hands:
    """A runner and its crew in one: takes work, and finishes it when a test says so."""

    def __init__(self) -> None:
        self.taken: list[tuple[Delivery, bool]] = []
        self._verdict: Verdict = Ack()
        self._work: dict[Delivery, Callable[[], None]] = {}

    def submit(self, function: Callable[[], None]) -> None:
        delivery, alone = function.args  # type: ignore[attr-defined]
        self.taken.append((delivery, alone))
        self._work[delivery] = function

    def run(self, _delivery: Delivery, *, alone: bool) -> Verdict:
        del alone
        return self._verdict

    def finish(self, delivery: Delivery, verdict: Verdict) -> None:
        self._verdict = verdict
        self._work.pop(delivery)()

    @property
    def at_work(self) -> set[Delivery]:
        return set(self._work)


class Bench:
    """A dispatcher with hands that obey."""

    def __init__(self, concurrency: int = 2) -> None:
        self.hands = Hands()
        self.wakes: list[int] = []
        self.now = time.monotonic()
        runner: Any = self.hands
        self.dispatcher = Dispatcher(runner, runner, concurrency, lambda: self.wakes.append(1))

    def add(self, *, redelivered: bool = False, generation: int = 0) -> Delivery:
        made = Delivery(
            message.incoming(b"", {"message_id": "m", "type": "k"}, {}),
            "q",
            redelivered=redelivered,
            generation=generation,
        )
        self.dispatcher.add(made)
        return made

    def dispatch(self, later: float = 0.0) -> set[Delivery]:
        """Return what is at work afterwards."""
        self.now += later
        self.dispatcher.dispatch(self.now)
        return self.hands.at_work

    def finish(self, delivery: Delivery, verdict: Verdict | None = None) -> None:
        self.hands.finish(delivery, verdict or Ack())
        assert list(self.dispatcher.reported()) == [(delivery, verdict or Ack())]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_so_many_at_once_in_the_order_they_came(bench: Bench) -> None:
    first, second, third = bench.add(), bench.add(), bench.add()
    assert bench.dispatch() == {first, second}
    bench.finish(first)
    assert bench.dispatch() == {second, third}
    assert bench.wakes == [1]


def test_what_is_kept_runs_again_when_it_is_due(bench: Bench) -> None:
    kept = bench.add()
    bench.dispatch()
    bench.finish(kept, Keep(5, "busy"))
    assert bench.dispatch(later=4) == set()
    assert 0 < bench.dispatcher.next_due(bench.now) < 2
    assert bench.dispatch(later=2) == {kept}


def test_what_came_back_is_looked_at_beside_others_and_runs_alone(bench: Bench) -> None:
    ordinary, back = bench.add(), bench.add(redelivered=True)
    assert bench.dispatch() == {ordinary, back}
    bench.finish(back, Alone())
    waiting = bench.add()
    assert bench.dispatch() == {ordinary}  # nothing begins before it has run
    bench.finish(ordinary)
    assert bench.dispatch() == {back}
    assert bench.hands.taken[-1] == (back, True)
    bench.finish(back)
    assert bench.dispatch() == {waiting}


def test_those_that_came_back_run_one_after_the_other(bench: Bench) -> None:
    back = [bench.add(redelivered=True) for _ in range(3)]
    for each in back:
        bench.dispatch()
        bench.finish(each, Alone())
    for each in back:
        assert bench.dispatch() == {each}
        bench.finish(each)


def test_one_that_is_alone_and_kept_is_looked_at_again_first(bench: Bench) -> None:
    back = bench.add(redelivered=True)
    bench.dispatch()
    bench.finish(back, Alone())
    bench.dispatch()
    bench.finish(back, Keep(1, "a fault"))
    ordinary = bench.add()
    assert bench.dispatch(later=2) == {back, ordinary}
    assert bench.hands.taken[-2] == (back, False)


def test_a_lease_is_waited_for_but_not_for_hours(bench: Bench) -> None:
    long, back = bench.add(), bench.add(redelivered=True)
    bench.dispatch()
    long.lease = object()  # type: ignore[assignment]
    bench.finish(back, Alone())
    assert bench.dispatch(later=PATIENCE - 1) == {long}
    assert bench.dispatch(later=2) == {long, back}


def test_a_lease_that_runs_alone_does_not_hold_the_others_for_hours(bench: Bench) -> None:
    back = bench.add(redelivered=True)
    bench.dispatch()
    bench.finish(back, Alone())
    bench.dispatch()
    back.lease = object()  # type: ignore[assignment]
    ordinary = bench.add()
    assert bench.dispatch() == {back}
    assert bench.dispatch(later=PATIENCE + 1) == {back, ordinary}


def test_a_new_connection_forgets_what_will_come_again(bench: Bench) -> None:
    at_work, kept, leased = bench.add(), bench.add(), bench.add()
    bench.dispatch()
    bench.finish(kept, Keep(1, "busy"))
    bench.dispatch()
    leased.lease = object()  # type: ignore[assignment]
    bench.finish(leased, Keep(1, "a fault"))
    bench.add()
    bench.dispatcher.forget(1)
    fresh = bench.add(generation=1)
    assert bench.dispatch() == {at_work, fresh}
    bench.finish(at_work, Keep(1, "busy"))  # of the old connection: its copy comes again
    bench.finish(fresh)
    assert bench.dispatch(later=5) == {leased}
    assert bench.dispatcher.unfinished == [leased]


def test_one_that_must_run_alone_is_forgotten_with_its_connection(bench: Bench) -> None:
    back = bench.add(redelivered=True)
    bench.dispatch()
    bench.dispatcher.forget(1)
    bench.finish(back, Alone())
    assert bench.dispatch() == set()
