"""Which destinations take messages: down, probed, resting, coming back. Pure."""

from __future__ import annotations

import pytest
from relays import row

from relay import destinations as module
from relay.destinations import FIRST_PROBE, FIRST_REST, LONGEST, Admission, Destinations

HERE = row()
THERE = row(kind="other.kind")
D, OTHER = HERE.destination, THERE.destination


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock to turn by hand."""
    seconds = [1000.0]
    monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return seconds


def down(destinations: Destinations, reason: str = "nothing is bound") -> None:
    destinations.unroutable(D, reason)


def probe(destinations: Destinations, now: list[float]) -> None:
    """Turn the clock to the next probe and send it."""
    now[0] += destinations.next_look
    assert destinations.to_probe() == [D]
    destinations.probing(D, sent=True)


def test_all_are_up_at_first(now: list[float]) -> None:
    destinations = Destinations()
    assert destinations.admit(HERE) is Admission.SEND
    assert destinations.next_look == float("inf")
    assert destinations.to_probe() == destinations.to_recover() == []


def test_a_return_turns_its_destination_down_and_no_other(now: list[float]) -> None:
    destinations = Destinations()
    news = destinations.unroutable(D, "nothing is bound")
    assert news is not None
    assert (news.reason, news.wait) == ("nothing is bound", FIRST_PROBE)
    assert destinations.admit(HERE) is Admission.PARK
    assert destinations.admit(THERE) is Admission.SEND


def test_only_the_first_return_is_news(now: list[float]) -> None:
    destinations = Destinations()
    assert destinations.unroutable(D, "a")
    assert destinations.unroutable(D, "b") is None
    assert destinations.down[D].wait == FIRST_PROBE


def test_a_probe_is_due_after_its_wait_and_only_once(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    assert destinations.to_probe() == []
    assert destinations.next_look == pytest.approx(FIRST_PROBE)
    probe(destinations, now)
    assert destinations.to_probe() == []
    assert destinations.next_look == float("inf"), "nothing to look at before its answer"


def test_each_probe_that_fails_waits_longer_up_to_a_bound(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    waits = []
    for _ in range(9):
        probe(destinations, now)
        assert destinations.unroutable(D, "still nothing")
        waits.append(destinations.next_look)
    assert waits == pytest.approx([2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST, LONGEST])


def test_a_probe_that_gets_through_brings_the_others_back(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    probe(destinations, now)
    assert destinations.confirmed(D)
    assert not destinations.confirmed(D), "that is news once"
    assert destinations.to_recover() == [D]
    assert destinations.admit(HERE) is Admission.SEND
    destinations.recovered(D)
    assert not destinations.down


def test_a_late_confirm_of_before_is_no_answer(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    assert not destinations.confirmed(D)
    assert destinations.admit(HERE) is Admission.PARK


def test_down_again_while_coming_back(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    probe(destinations, now)
    destinations.confirmed(D)
    again = destinations.unroutable(D, "gone again")
    assert again is not None
    assert again.wait == 2 * FIRST_PROBE
    assert destinations.to_recover() == []
    assert destinations.admit(HERE) is Admission.PARK


@pytest.mark.parametrize("answer", ["nacked", "refused", "lost"])
def test_a_probe_without_a_useful_answer_is_sent_again(now: list[float], answer: str) -> None:
    destinations = Destinations()
    down(destinations)
    probe(destinations, now)
    destinations.lost() if answer == "lost" else getattr(destinations, answer)(D)
    assert destinations.admit(HERE) is Admission.PARK
    assert destinations.next_look <= 2 * FIRST_PROBE
    probe(destinations, now)
    assert destinations.confirmed(D)


def test_lost_probes_do_not_storm(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    for _ in range(5):
        probe(destinations, now)
        destinations.lost()
        assert destinations.next_look >= FIRST_PROBE


def test_no_job_to_probe_with_is_waited_for(now: list[float]) -> None:
    destinations = Destinations([(D, "before our time")])
    assert destinations.to_probe() == [D], "at once at the start of a term"
    destinations.probing(D, sent=False)
    assert destinations.to_probe() == []
    assert destinations.next_look == pytest.approx(2 * FIRST_PROBE)


def test_those_that_wait_longest_are_probed_first(now: list[float]) -> None:
    destinations = Destinations()
    destinations.unroutable(OTHER, "x")
    now[0] += 0.1
    down(destinations)
    now[0] += 5
    assert destinations.to_probe() == [OTHER, D]


def test_a_ring_probes_at_once_and_at_most_once_a_second(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    destinations.rung()
    assert destinations.to_probe() == [D]
    probe(destinations, now)
    destinations.unroutable(D, "not that one")
    now[0] += 0.2
    destinations.rung()
    assert destinations.to_probe() == []
    assert destinations.next_look == pytest.approx(0.8), "the second ring is heard, a second after the first"


def test_what_is_parked_in_the_table_and_unknown_here_is_down(now: list[float]) -> None:
    destinations = Destinations()
    destinations.align([(D, "was locked when the others came back")])
    assert destinations.down[D].reason == "was locked when the others came back"
    assert destinations.to_probe() == [D]


def test_what_has_no_parked_jobs_any_more_is_forgotten(now: list[float]) -> None:
    destinations = Destinations()
    down(destinations)
    destinations.unroutable(OTHER, "x")
    now[0] += 2
    destinations.probing(OTHER, sent=True)
    destinations.align([])
    assert list(destinations.down) == [OTHER], "its probe is under way"


def test_a_nack_gives_its_destination_a_rest_and_no_other(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    assert destinations.admit(HERE) is Admission.LEAVE
    assert destinations.admit(THERE) is Admission.SEND
    assert destinations.next_look == pytest.approx(FIRST_REST)


def test_after_a_rest_one_tries_and_the_others_wait_for_its_answer(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    now[0] += FIRST_REST
    verdicts = [destinations.admit(HERE) for _ in range(3)]
    assert verdicts == [Admission.SEND, Admission.LEAVE, Admission.LEAVE]


def test_a_rest_grows_while_nothing_gets_through(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    rests = []
    for _ in range(12):
        rests.append(destinations.next_look)
        now[0] += rests[-1]
        assert destinations.admit(HERE) is Admission.SEND
        destinations.nacked(D)
    assert rests[:3] == pytest.approx([FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST])
    assert rests[-1] == pytest.approx(LONGEST)


def test_after_a_rest_twice_as_many_try_each_time_until_it_is_over(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    now[0] += FIRST_REST
    rounds = []
    while destinations.admit(HERE) is Admission.SEND and len(rounds) < 20:
        tries = 1
        while destinations.admit(HERE) is Admission.SEND and tries < 10_000:
            tries += 1
        rounds.append(tries)
        for _ in range(tries):
            destinations.confirmed(D)
    assert rounds[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert rounds[9] == 10_000


def test_a_slow_queue_is_not_flooded_with_what_it_refuses(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    for _ in range(10):
        now[0] += destinations.next_look
        assert destinations.admit(HERE) is Admission.SEND
        destinations.confirmed(D)
        assert [destinations.admit(HERE) for _ in range(3)] == [Admission.SEND] * 2 + [Admission.LEAVE]
        destinations.confirmed(D)
        destinations.nacked(D)
        assert destinations.next_look == pytest.approx(FIRST_REST), "something got through: no longer rest"


def test_a_try_that_is_lost_may_be_repeated(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    now[0] += FIRST_REST
    destinations.admit(HERE)
    destinations.lost()
    assert destinations.admit(HERE) is Admission.SEND


def test_a_try_that_is_refused_or_returned_is_over(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    now[0] += FIRST_REST
    destinations.admit(HERE)
    destinations.refused(D)
    assert destinations.admit(HERE) is Admission.SEND
    down(destinations)
    destinations.recovered(D)
    assert destinations.admit(HERE) is Admission.SEND


def test_a_rest_that_is_over_keeps_nobody_awake(now: list[float]) -> None:
    destinations = Destinations()
    destinations.nacked(D)
    now[0] += 100
    assert destinations.next_look == float("inf")
