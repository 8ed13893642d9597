"""Single values as people write them."""

from __future__ import annotations

import pytest

from relay import values


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (10, 10.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("10 m", 600.0),
        ("7d", 604_800.0),
        ("0", 0.0),
    ],
)
def test_durations(given: object, seconds: float) -> None:
    assert values.duration(given) == seconds


@pytest.mark.parametrize(
    "given", ["-1", -1, "soon", "", "1w", "1h30m", True, None, "nan", "inf", float("inf"), "1e400"]
)
def test_what_is_no_duration(given: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        values.duration(given)


@pytest.mark.parametrize(
    ("given", "size"), [(1, 1), ("8MB", 8_000_000), ("128 KiB", 131_072), ("1_000", 1000), ("2b", 2)]
)
def test_sizes(given: object, size: int) -> None:
    assert values.size(given) == size


@pytest.mark.parametrize("given", [0, "0", "0.2", "8m", "x", None, True])
def test_what_is_no_size(given: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        values.size(given)


@pytest.mark.parametrize("given", [0, "1.5", 1.5, "2s", "x", True, -3])
def test_what_is_no_count(given: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        values.count(given)


@pytest.mark.parametrize(
    ("given", "found"), [(True, True), ("1", True), ("YES", True), ("off", False), ("false", False)]
)
def test_switches(given: object, *, found: bool) -> None:
    assert values.switch(given) is found


@pytest.mark.parametrize("given", ["", "maybe", 2, None])
def test_what_is_no_switch(given: object) -> None:
    with pytest.raises(ValueError, match="true or false"):
        values.switch(given)


@pytest.mark.parametrize("given", [":8080", "127.0.0.1:0", "[::1]:80", "localhost:65535"])
def test_addresses(given: str) -> None:
    assert values.address(given) == given


@pytest.mark.parametrize("given", ["8080", "h:", "h:x", "h:70000", "", 80])
def test_what_is_no_address(given: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.address(given)


@pytest.mark.parametrize("given", ["x" * 256, "é" * 128, "a\nb", "a\0b"])
def test_what_no_broker_takes_as_a_name(given: str) -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        values.name(given)
