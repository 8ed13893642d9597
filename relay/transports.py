"""What a publish means on each of kombu's transports, and who may be used. Pure.

A: confirmed and durable. B: accepted by a server that may forget. F: reports success for what was never
delivered. The grade decides whether the relay starts (F does not, unless ``--allow-lossy``), and what the
README may promise.
"""

from __future__ import annotations

import re
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
    "memory": "memory",
}


_LISTED: Final = re.compile(r";(?=[a-z][a-z0-9+.\-]*://)", re.IGNORECASE)


def listed(url: str) -> list[str]:
    """Return the single addresses of a broker's address: several are divided by ``;``."""
    return _LISTED.split(url)


def family(url: str) -> str:
    """Return which of our publishers serves a single broker's URL.

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
    """Return the grade of a broker's transport: the worst, where there are several to turn to.

    Args:
        url: the broker's address, or several.
        allow_lossy: take grade F too.

    Raises:
        WrongEnvironment: it would report success for what it loses, and nobody said ``--allow-lossy``.
    """
    worst = max(listed(url), key=lambda each: GRADES[family(each)].letter)
    grade = GRADES[family(worst)]
    if grade.letter == "F" and not allow_lossy:
        raise WrongEnvironment(
            f"the transport of {worst.split(':', 1)[0]}:// has grade F ({grade.reason}): "
            "choose another broker, or accept losses with --allow-lossy"
        )
    return grade
