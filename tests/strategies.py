"""Payloads for property tests: what JSON can say, and what people hand over all the same.

`is_writable` and `is_strict` are the oracles: they say what must be accepted, and what must come back as it
went, in other words than the code under test does.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

LARGEST_INT = 10**4300 - 1


class Word(StrEnum):
    """An enum that is a str."""

    PAID = "paid"


class Number(IntEnum):
    """An enum that is an int."""

    SEVEN = 7


class Thing(Enum):
    """An enum that is neither, with a value that must be converted again."""

    PRICE = Decimal("129.90")


def nested(depth: int, leaf: Any = None) -> Any:
    """Return lists and dicts in turn, `depth` of them in one another, around a leaf."""
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


def cyclic() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def is_writable(value: Any, depth: int = 0) -> bool:
    """Say whether a value is, or can be made, strict JSON within our bounds."""
    if isinstance(value, Enum):
        return is_writable(value.value, depth)
    if isinstance(value, Decimal):
        return value.is_finite()
    if not isinstance(value, dict | list | tuple):
        return isinstance(value, date | time | UUID) or is_strict(value)
    keys = list(value) if isinstance(value, dict) else []
    items = value.values() if isinstance(value, dict) else value
    return (
        depth < 64
        and all(isinstance(key, str) and is_text(key) for key in keys)
        and all(is_writable(item, depth + 1) for item in items)
    )


def is_strict(value: Any) -> bool:
    """Say whether a value is strict JSON as it stands, so that it must come back equal."""
    if type(value) is dict:
        return is_writable(value) and all(type(key) is str and is_strict(value[key]) for key in value)
    if type(value) is list:
        return is_writable(value) and all(is_strict(item) for item in value)
    if type(value) is str:
        return is_text(value)
    if type(value) is int:
        return abs(value) <= LARGEST_INT
    return type(value) in (bool, type(None)) or (type(value) is float and math.isfinite(value))


def is_text(value: str) -> bool:
    """Say whether a str can be stored as text: no NUL, no lone surrogate."""
    return all(char != "\0" and not 0xD800 <= ord(char) < 0xE000 for char in value)


_TRAPS = ["__type__", "__value__", "", "\\u0000", "\\", '"', "\u2028", "\x1f\x7f", "$", "é\U0001f600", "NaN"]
_MARKED = [
    {"__type__": "zzz", "__value__": 1},
    {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
    {"__type__": "bytes", "__value__": "AA=="},
]
_NUMBERS = [0, -0.0, 1e308, 5e-324, 2**53 + 1, 2**63, -(2**64), LARGEST_INT, -LARGEST_INT]
# Made afresh by functions: Hypothesis prints what it samples from, and not all of these can be printed.
_REFUSED: list[Callable[[], Any]] = [
    lambda: "\0",
    lambda: "a\0b",
    lambda: "\ud800",
    lambda: "\udfff!",
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: LARGEST_INT + 1,
    lambda: -LARGEST_INT - 1,
    lambda: 10**5000,
    lambda: b"bytes",
    lambda: bytearray(b"bytes"),
    object,
    lambda: object,
    lambda: {1, 2},
    lambda: 1 + 2j,
    lambda: Decimal("NaN"),
    lambda: Decimal("-Infinity"),
    lambda: {1: "int"},
    lambda: {None: 1},
    lambda: {True: 1},
    lambda: {(1, 2): 3},
    lambda: {"\0": 1},
    lambda: {"\udc00": 1},
    cyclic,
    lambda: nested(65),
    lambda: nested(5_000),
]
_CONVERTED = [
    Word.PAID,
    Number.SEVEN,
    Thing.PRICE,
    Decimal("1E+131071"),
    (1, (2, 3)),
    UUID(int=7),
    date(2026, 1, 2),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    time(3, 4, 5),
    {Word.PAID: Number.SEVEN},
]


def texts() -> SearchStrategy[str]:
    """Return text that can be stored, with the traps among it."""
    clean = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.one_of(st.sampled_from(_TRAPS), st.text(clean, max_size=8))


def _within(leaves: SearchStrategy[Any], max_leaves: int) -> SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts(), inner, max_size=4)),
        max_leaves=max_leaves,
    )


def _json_leaves() -> SearchStrategy[Any]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts(),
        st.sampled_from(_NUMBERS),
        st.sampled_from(_MARKED),
        st.integers(1, 60).map(nested),
    )


def json_payloads() -> SearchStrategy[Any]:
    """Return payloads that are JSON as they stand; nearly all are accepted (depth may pass the bound)."""
    return _within(_json_leaves(), max_leaves=6)


def payloads() -> SearchStrategy[Any]:
    """Return payloads of every sort: JSON, what can be converted, and what must be refused."""
    odd = st.one_of(st.sampled_from(_REFUSED).map(lambda make: make()), st.sampled_from(_CONVERTED))
    return st.one_of(json_payloads(), json_payloads(), _within(st.one_of(_json_leaves(), odd), max_leaves=6))


def large_payloads(least: int = 102_400, most: int = 131_072) -> SearchStrategy[dict[str, Any]]:
    """Return payloads whose JSON is between `least` and `most` bytes."""
    part = st.dictionaries(texts(), st.one_of(st.integers(), st.booleans(), texts()), max_size=4)
    char = st.sampled_from(["x", "é", "\U0001f600", "\n", '"', "\\"])
    return st.builds(_filled, part, char, st.integers(least + 4, most))


def _filled(part: dict[str, Any], char: str, size: int) -> dict[str, Any]:
    payload = {"items": [part] * 50, "text": ""}
    room = size - _written(payload)
    payload["text"] = char * (room // (_written(char) - len('""')))
    return payload


def _written(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
