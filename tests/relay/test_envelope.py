"""A job that fits into no message is told by its field."""

from __future__ import annotations

import pytest
import relays

from relay.envelope import unfit
from relay.routes import Way

LONG = "é" * 128


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("routing key", {}),
        ("kind", {"kind": LONG}),
        ("content type", {"content_type": LONG}),
        ("name of the header éé", {"headers": {LONG: "1"}}),
    ],
)
def test_the_field_that_is_too_long_is_named(what: str, changes: dict[str, object]) -> None:
    way = Way("outbox", "k" if changes else LONG, None)
    told = unfit(relays.row(**changes), way, ValueError("ubyte format requires 0 <= number <= 255"))
    assert told.startswith(f"no message can hold it: its {what}")
    assert told.endswith("has 256 bytes, and 255 are the most")


def test_what_is_not_known_is_told_in_the_librarys_words() -> None:
    assert unfit(relays.row(), Way("a", "b", None), ValueError("why")) == "no message can hold it: why"
