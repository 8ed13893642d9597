"""Lays out what commands print for people: aligned columns, ages, counts. Knows no job and no database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDEST: Final = 60  # characters of a cell; the whole text is in --json

_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"))


def aligned(rows: Iterable[Sequence[object]], widest: int | None = WIDEST) -> str:
    """Return rows as lines with aligned columns; numbers stand to the right.

    Args:
        rows: of cells; all have the same number.
        widest: characters of a cell that are shown. None: all.
    """
    cells = [[_cell(value, widest) for value in row] for row in rows]
    if not cells:
        return ""
    widths = [max(len(text) for text, _ in column) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for (text, right), width in zip(row, widths, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object, widest: int | None) -> tuple[str, bool]:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}", True
    text = "" if value is None else " ".join(str(value).split())
    # What a job brought along may hold an escape sequence; a terminal must not obey it.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return (text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"), False


def age(seconds: float) -> str:
    """Return a duration in one unit: ``0.4 s``, ``12 m``, ``3 d``."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def plain(value: object) -> str:
    """Return a value as one cell: JSON for what has parts, ISO 8601 for a time."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return _written(value)


def as_json(value: Any) -> None:
    """Print a value as one line of JSON; times in ISO 8601."""
    click.echo(json.dumps(value, default=_written, ensure_ascii=False))


def moment(value: datetime, digits: str = "seconds") -> str:
    """Return a time in UTC, whatever zone the session has: ``2026-01-02T03:04:05Z``."""
    return value.astimezone(UTC).isoformat(timespec=digits).replace("+00:00", "Z")


def _written(value: object) -> str:
    return moment(value, "microseconds") if isinstance(value, datetime) else str(value)
