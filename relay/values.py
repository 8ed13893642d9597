"""Reads single values as people write them: durations, counts, sizes, switches, addresses.

Each function takes text (a flag, a variable) or what TOML makes of it, and raises ``ValueError`` with the end
of a sentence that begins with the setting's name. Which settings there are is not known here.
"""

from __future__ import annotations

import math
import re
from functools import wraps
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES: Final = {"": 1, "b": 1, "kb": 1000, "mb": 1_000_000, "kib": 1024, "mib": 1_048_576}
_LONGEST: Final = 365_000 * 86_400.0  # PostgreSQL's times end not long after
_NUMBER = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


def duration(value: object) -> float:
    """Return seconds from a number of seconds, or from text such as ``90``, ``1.5h`` or ``7d``."""
    number, unit = _parts(value)
    if unit not in _UNITS or not math.isfinite(number):
        raise ValueError(f"must be a duration such as 10, 1.5s, 10m, 2h or 7d, not {value!r}")
    if number * _UNITS[unit] > _LONGEST:
        raise ValueError(f"must be at most 365000d, not {value!r}")
    return number * _UNITS[unit]


def size(value: object) -> int:
    """Return bytes from a number, or from text such as ``8MB`` or ``128KiB``."""
    number, unit = _parts(value)
    if unit not in _SIZES or number * _SIZES[unit] < 1 or not math.isfinite(number):
        raise ValueError(f"must be a size such as 8000000, 8MB or 128KiB, not {value!r}")
    return int(number * _SIZES[unit])


def count(value: object) -> int:
    """Return a whole number, 1 or more."""
    number, unit = _parts(value)
    if unit or number < 1 or not math.isfinite(number) or number != int(number):
        raise ValueError(f"must be a whole number, 1 or more, not {value!r}")
    return int(number)


def at_most(most: int, read: Callable[[object], int] = count) -> Callable[[object], int]:
    """Return a reader of the same values up to a bound."""

    @wraps(read)
    def bounded(value: object) -> int:
        number = read(value)
        if number > most:
            raise ValueError(f"must be at most {most}, not {value!r}")
        return number

    return bounded


def _parts(value: object) -> tuple[float, str]:
    """Divide a value into its number and its unit; what is none of both has the unit ``?``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (float(value), "") if value >= 0 else (math.nan, "?")
    found = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    return (float(found[1]), found[2].lower()) if found else (math.nan, "?")


def switch(value: object) -> bool:
    """Return whether something is on."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _YES | _NO:
        raise ValueError(f"must be true or false, not {value!r}")
    return word in _YES


def text(value: object) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {value!r}")  # noqa: TRY004 - one kind of error for all values
    return value


def name(value: object) -> str:
    """Return the name of an exchange, a routing key or a pattern: what AMQP can carry in a short string."""
    found = text(value)
    if len(found.encode()) > 255 or not found.isprintable():  # noqa: PLR2004 - AMQP's limit
        raise ValueError("must be at most 255 bytes without control characters")
    return found


def address(value: object) -> str:
    """Return ``host:port`` from itself, or from ``:port`` (all addresses) or ``[v6]:port``."""
    host, colon, port = text(value).rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - the highest port
        raise ValueError(f"must be ADDRESS:PORT or :PORT, not {value!r}")
    return f"{host}:{port}"


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader of one of these words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {value!r}")
        return str(value)

    return read


def shown(value: object) -> str:
    """Return a default as ``--help`` shows it, in the spelling that is read back."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
