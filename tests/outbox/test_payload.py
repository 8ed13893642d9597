"""A payload is published exactly as checked, or refused before any SQL, by name."""

from __future__ import annotations

import json
import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from strategies import (
    LARGEST_INT,
    Thing,
    cyclic,
    is_strict,
    is_text,
    is_writable,
    large_payloads,
    nested,
    payloads,
)

from outbox.payload import DecodeError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON = "application/json"


def texts_in(value: Any) -> Iterator[str]:
    """Yield every str of a decoded body, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def comes_back_or_is_refused(payload: Any) -> None:
    refusal = None
    try:
        body, content_type = encode(payload)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    if refusal is not None:
        assert not is_writable(payload)
        assert refusal.isprintable()  # one line, whatever the payload says
        return
    arrived = decode(body, content_type)
    assert is_writable(payload)
    assert is_strict(arrived)
    assert all(is_text(text) for text in texts_in(arrived))
    if is_strict(payload):
        assert json.loads(body) == arrived == payload
        assert repr(arrived) == repr(payload)  # True is not 1, and -0.0 is not 0
    assert encode(arrived) == (body, JSON)


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(payloads())
@example({"__type__": "zzz", "__value__": 1})
@example(nested(64))
@example(nested(65))
@example(LARGEST_INT)
@example(LARGEST_INT + 1)
def test_any_payload_comes_back_as_it_went_or_is_refused_before_anything_happens(payload: Any) -> None:
    comes_back_or_is_refused(payload)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(payloads())
def test_ten_thousand_payloads_come_back_or_are_refused(payload: Any) -> None:
    comes_back_or_is_refused(payload)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(large_payloads())
def test_a_large_payload_within_the_limit_comes_back_as_it_went(payload: dict[str, Any]) -> None:
    body, content_type = encode(payload)
    assert 102_400 <= len(body) <= 131_072
    assert json.loads(body) == decode(body, content_type) == payload


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (
            {"total": object()},
            TypeError,
            "$.total: object cannot be written as JSON; register it with outbox.p",
        ),
        (
            {"total": b"x"},
            TypeError,
            "$.total: bytes cannot be written as JSON; register it with outbox.payload",
        ),
        (object, TypeError, "$: type cannot be written as JSON; register it with outbox.payload.plain"),
        ([0, {"a b": math.nan}], ValueError, '$[1]["a b"]: nan is not JSON'),
        (-math.inf, ValueError, "$: -inf is not JSON"),
        (
            {"a": [Decimal("NaN")]},
            ValueError,
            "$.a[0]: a Decimal that is not finite cannot be written as JSON",
        ),
        ({"a": {7: 1}}, TypeError, "$.a: a key is int, keys are str"),
        ({"a": {Thing.PRICE: 1}}, TypeError, "$.a: a key is Thing, keys are str"),
        ({"a": "\0"}, ValueError, "$.a: U+0000 cannot be stored"),
        ({"\0": 1}, ValueError, '$["\\u0000"]: U+0000 cannot be stored'),
        ({"a": "\ud800"}, ValueError, "$.a: a lone surrogate is not Unicode text"),
        ({"\ud800\n": 1}, ValueError, '$["\\ud800\\n"]: a lone surrogate is not Unicode text'),
        ({"n": 10**4300}, ValueError, "$.n: an integer of more than 4300 digits"),
        ({"n": -(10**99_999)}, ValueError, "$.n: an integer of more than 4300 digits"),
    ],
)
def test_what_cannot_be_written_is_refused_by_its_path(
    payload: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        encode(payload)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("payload", [nested(65), nested(100_000), cyclic(), nested(64, leaf=(1,))])
def test_what_is_too_deep_or_holds_itself_is_refused_in_one_short_line(payload: Any) -> None:
    with pytest.raises(ValueError, match=r"^\$.*…?.*: nested deeper than 64, or within itself$") as caught:
        encode(payload)
    assert len(str(caught.value)) < 250


def test_a_depth_of_64_is_accepted() -> None:
    body, _ = encode(nested(64))
    assert json.loads(body) == nested(64)


@pytest.mark.parametrize("digits", [0, 100_000])
def test_a_process_that_allows_longer_integers_is_not_allowed_to_send_them(digits: int) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(digits)
    try:
        with pytest.raises(ValueError, match="more than 4300 digits"):
            encode({"n": 10**4300})
        assert len(encode(LARGEST_INT)[0]) == 4300
    finally:
        sys.set_int_max_str_digits(before)


def test_a_process_that_allows_only_shorter_integers_gets_a_value_error() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(ValueError, match="640 digits"):
            encode({"n": LARGEST_INT})
        with pytest.raises(DecodeError, match="too many digits"):
            decode(b"1" * 641, JSON)
    finally:
        sys.set_int_max_str_digits(before)


def test_text_is_written_as_it_is_and_without_spaces() -> None:
    assert encode({"name": "Zoë", "n": [1, 2]}) == ('{"name":"Zoë","n":[1,2]}'.encode(), JSON)


@pytest.mark.parametrize("given_as", [bytes, bytearray, memoryview])
def test_bytes_with_a_content_type_are_kept_as_they_are(given_as: Callable[[bytes], Any]) -> None:
    body, content_type = encode(given_as(b"\x00\xff"), "application/x-protobuf")
    assert (type(body), body, content_type) == (bytes, b"\x00\xff", "application/x-protobuf")
    assert decode(body, content_type) == b"\x00\xff"


def test_bytes_without_a_content_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^a payload of bytes needs a content_type$"):
        encode(b"{}")


def test_bytes_that_are_said_to_be_json_keep_their_spelling() -> None:
    assert encode(b'{"a" : 1.50}', "application/json; charset=utf-8")[0] == b'{"a" : 1.50}'


@pytest.mark.parametrize("body", [b"{", b"\xff", b'"\\u0000"', b"NaN", b'"\\ud800"', b"[" * 65 + b"]" * 65])
def test_bytes_that_are_said_to_be_json_and_are_not_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^bytes with content_type application/json: "):
        encode(body, JSON)


def test_text_with_a_content_type_of_its_own_is_kept_as_text() -> None:
    assert encode("Zoë", "text/plain") == ("Zoë".encode(), "text/plain")
    assert encode("Zoë") == ('"Zoë"'.encode(), JSON)
    assert encode("Zoë", "application/vnd.shop+json")[0] == '"Zoë"'.encode()


@pytest.mark.parametrize(
    ("payload", "content_type", "error", "message"),
    [
        ({"a": 1}, "text/plain", TypeError, "content_type text/plain takes bytes or str, not dict"),
        ("\ud800", "text/plain", ValueError, "the payload holds a lone surrogate"),
        ("x", "json", ValueError, "content_type 'json' is no media type"),
        ("x", "", ValueError, "content_type is empty"),
        ("x", "text/" + "x" * 300, ValueError, "content_type is 305 bytes, the limit is 255"),
        ("x", 7, TypeError, "content_type is int, not str"),
    ],
)
def test_a_content_type_that_does_not_fit_is_refused(
    payload: Any, content_type: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        encode(payload, content_type)


def test_a_payload_over_the_limit_is_refused_with_both_sizes_and_the_remedy() -> None:
    assert len(encode("x" * 131_070)[0]) == 131_072
    with pytest.raises(ValueError, match=r"is 131073 bytes, the limit is 131072: .*claim check"):
        encode("x" * 131_071)
    with pytest.raises(ValueError, match="is 12 bytes, the limit is 11"):
        encode(b"twelve bytes", "text/plain", limit=11)


@pytest.mark.parametrize(
    "content_type",
    [JSON, "Application/JSON", "application/json; charset=utf-8", "application/cloudevents+json;v=1"],
)
def test_every_spelling_of_json_is_read_as_json(content_type: str) -> None:
    assert decode(b'{"a":1}', content_type) == {"a": 1}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-python-serialize", "json", ""])
def test_what_is_not_json_is_left_as_bytes(content_type: str) -> None:
    assert decode(b'{"a":1}', content_type) == b'{"a":1}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"secret",
        b'{"secret":}',
        b"\xffsecret",
        "\ufeff1".encode(),
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"-1e999999",
        b"1" * 4301,
        b"[" * 200_000,
        b'{"a":' * 200_000,
        "[1]".encode("utf-16"),
    ],
)
def test_a_body_that_is_not_strict_json_is_reported_in_one_line_without_its_content(body: bytes) -> None:
    with pytest.raises(DecodeError, match=r"^the body [^\n]*$") as caught:
        decode(body, JSON)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_kombus_own_marks_are_data_like_any_other() -> None:
    payload = {"__type__": "datetime", "__value__": "2026-01-01"}
    assert decode(*encode(payload)) == payload
