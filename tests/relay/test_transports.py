"""The grades of transports, and who may be used. Pure."""

from __future__ import annotations

import pytest

from outbox.errors import WrongEnvironment
from relay.transports import FAMILIES, GRADES, admit, family, listed


@pytest.mark.parametrize(
    ("url", "letter"),
    [
        ("amqp://h//", "A"),
        ("AMQPS://h//", "A"),
        ("pyamqp://h//", "A"),
        ("redis://h/0", "B"),
        ("rediss://h/0", "B"),
        ("amqp://a//;amqp://b//", "A"),
        ("amqp://a//;redis://b/0", "B"),
    ],
)
def test_the_grade_is_the_worst_of_those_to_turn_to(url: str, letter: str) -> None:
    assert admit(url, allow_lossy=False).letter == letter


@pytest.mark.parametrize("url", ["memory://", "amqp://a//;memory://"])
def test_a_lossy_transport_is_refused_unless_it_is_asked_for(url: str) -> None:
    with pytest.raises(WrongEnvironment, match=r"memory:// has grade F .*--allow-lossy"):
        admit(url, allow_lossy=False)
    assert admit(url, allow_lossy=True).letter == "F"


@pytest.mark.parametrize(
    "scheme", ["kafka", "confluentkafka", "gcpubsub", "sqs", "sentinel", "filesystem", ""]
)
def test_a_transport_without_a_grade_is_refused_whatever_is_allowed(scheme: str) -> None:
    with pytest.raises(WrongEnvironment, match="no grade is known"):
        admit(f"{scheme}://h", allow_lossy=True)


def test_every_family_has_a_grade_with_its_reason() -> None:
    assert set(FAMILIES.values()) == set(GRADES)
    assert all(grade.letter in "ABF" and grade.reason for grade in GRADES.values())


def test_a_family_is_known_by_its_scheme_alone() -> None:
    assert family("redis://amqp:memory@h") == "redis"


def test_addresses_are_divided_where_a_scheme_begins() -> None:
    assert listed("amqp://u:a;b@h//;amqps://h2//") == ["amqp://u:a;b@h//", "amqps://h2//"]
