"""Throughput, silences, and the picture of them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from relay.theatre.judge import Account, Delivery, Written, judge
from relay.torture import picture, pulse
from relay.torture.report import Outcome
from relay.torture.tormentor import Infliction
from relay.torture.vitals import Sample

TIMES = [100.0 + n / 10 for n in range(100)] + [113.0 + n / 10 for n in range(100)]


def outcome(**changes: object) -> Outcome:
    account = Account([Written("a", "k")])
    report = judge(account, [Delivery("a", 1, flagged=False, redelivered=False, at=1.0)], effects={"a": 1})
    known: dict[str, object] = {
        "report": report,
        "calls": 1,
        "effects": 1,
        "sent_again": 0,
        "seed": 7,
        "seconds": 20.0,
        "servers": ["here & there"],
        "inflictions": [
            Infliction("kill-leader", "relay-1", 110.0, 110.1),
            Infliction("freeze-broker", "RabbitMQ", 118.0, 121.0),
        ],
        "times": TIMES,
        "began": 100.0,
        "waited": 3.0,
        "unfinished": 0,
        "vitals": {0.1: {"relay": Sample(1000, 9)}, 1.0: {"relay": Sample(1200, 9)}},
        "restarts": 1,
        "dropouts": {},
    }
    return Outcome(**(known | changes))  # type: ignore[arg-type]


def test_rates_are_per_second() -> None:
    assert pulse.rates([0.1, 0.2, 1.1, 9.0], 0.0, 2.0, 0.5) == [4.0, 0.0, 2.0, 0.0]
    assert pulse.rates([], 0.0, 0.0, 0.5) == [0.0]


def test_a_sparkline_has_its_highest_bar_where_most_happened() -> None:
    assert pulse.sparkline([0, 1, 8, 4]) == " ▂█▅"
    assert pulse.sparkline([]) == ""


@pytest.mark.parametrize(
    ("at", "until", "longest"),
    [(1.5, 1.9, 0.5), (1.5, 2.5, 5.0), (2.0, 4.0, 5.0), (2.5, 2.6, 4.5), (0.0, 20.0, 5.0), (8.5, 9.5, 0.0)],
)
def test_a_silence_goes_from_the_fault_to_the_next_message(at: float, until: float, longest: float) -> None:
    assert pulse.silence([1.0, 2.0, 7.0, 8.0], at, until) == longest


def test_each_fault_has_its_silence() -> None:
    found = outcome().silences()
    assert found["kill-leader"][0] == pytest.approx(3.0)
    assert found["freeze-broker"][0] == pytest.approx(0.1)


def test_memory_is_held_against_its_beginning() -> None:
    assert outcome().growth() == {"relay": pytest.approx(0.2)}
    assert outcome(vitals={}).growth() == {}


def test_the_picture_is_well_formed_and_marks_every_fault() -> None:
    drawn = ET.fromstring(picture.draw(outcome()))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"kill-leader", "freeze-broker", "every promise was kept", "load ends"} <= set(texts)
    marks = [e for e in drawn.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "fault"]
    assert len(marks) == 2
    assert float(marks[0].get("x", 0)) > float(marks[1].get("x", 0))  # by name: freeze comes first, and later


def test_a_torture_in_which_nothing_happened_can_be_drawn() -> None:
    nothing = outcome(times=[], inflictions=[], seconds=0.5, waited=0.0)
    assert "0 s" in picture.draw(nothing)


def test_machines_get_every_figure() -> None:
    told = outcome().as_dict()
    assert (told["kept"], told["committed"], told["lost"], told["seed"]) == (True, 1, 0, 7)
    assert told["faults"]["kill-leader"] == {"times": 1, "longest_silence": 3.0}
