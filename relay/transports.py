"""What a publish means on each of kombu's transports, and who may be used. Pure.

A: confirmed and durable. B: accepted by a server that may forget. F: reports success for what was never
delivered. The grade decides whether the relay starts (F does not, unless ``--allow-lossy``), and what the
README may promise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from outbox.errors import WrongEnvironment


class Grade(NamedTuple):
    """A letter and the reason for it, in words for an operator."""

    letter: str
    reason: str


GRADES: Final[dict[str, Grade]] = {
    "amqp": Grade(
        "A", "every message is confirmed by its own delivery tag; quorum queues flush before they confirm"
    ),
    "redis": Grade("B", "accepted by a server that may forget the last second, or all of it"),
    "memory": Grade("F", "lives in one process and dies with it"),
}

FAMILIES: Final = {
    "amqp": "amqp",
    "amqps": "amqp",
    "pyamqp": "amqp",
    "redis": "redis",
    "rediss": "redis",
    "sentinel": "redis",
    "memory": "memory",
}


def family(url: str) -> str:
    """Return which of our publishers serves a broker's URL.

    Raises:
        WrongEnvironment: none does.
    """
    scheme = url.split("://", 1)[0].lower()
    if scheme not in FAMILIES:
        raise WrongEnvironment(
            f"no grade is known for the transport {scheme!r}: use one of {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[scheme]


def admit(url: str, *, allow_lossy: bool) -> Grade:
    """Return the grade of a broker's transport.

    Raises:
        WrongEnvironment: it would report success for what it loses, and nobody said ``--allow-lossy``.
    """
    grade = GRADES[family(url)]
    if grade.letter == "F" and not allow_lossy:
        raise WrongEnvironment(
            f"the transport of {url.split(':', 1)[0]}:// has grade F ({grade.reason}): "
            "choose another broker, or accept losses with --allow-lossy"
        )
    return grade
