"""Names and headers that the broker, the database or a log would refuse or mangle are refused first."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.names import MAX_HEADERS, check_headers, check_kind, check_name


class Kind(StrEnum):
    """Kinds, as many applications keep them."""

    PAID = "order.paid"


@pytest.mark.parametrize(
    "kind", ["order.paid", "x", "Zoë", "a b", "日本.語", "x" * 255, "é" * 127, "a\u00a0b"]
)
def test_a_kind_that_can_be_routed_is_accepted(kind: str) -> None:
    assert check_kind(kind) == kind


def test_a_member_of_an_enum_becomes_the_str_that_it_is() -> None:
    assert type(check_kind(Kind.PAID)) is str
    assert check_kind(Kind.PAID) == "order.paid"
    headers = check_headers({Kind.PAID: Kind.PAID})
    assert [(type(name), type(value)) for name, value in headers.items()] == [(str, str)]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("", ValueError, "kind is empty"),
        ("x" * 256, ValueError, "kind is 256 bytes, the limit is 255"),
        ("é" * 128, ValueError, "kind is 256 bytes, the limit is 255"),
        ("order.*", ValueError, "kind holds * or #, which are wildcards to a broker"),
        ("order.#", ValueError, "kind holds * or #, which are wildcards to a broker"),
        ("a\0b", ValueError, "kind holds a control character"),
        ("a\nb", ValueError, "kind holds a control character"),
        ("a\x7f", ValueError, "kind holds a control character"),
        ("a\x85", ValueError, "kind holds a control character"),
        ("a\u2028b", ValueError, "kind holds a control character"),
        ("\ud800", ValueError, "kind holds a lone surrogate, which is not Unicode text"),
        (b"order.paid", TypeError, "kind is bytes, not str"),
        (None, TypeError, "kind is NoneType, not str"),
        (7, TypeError, "kind is int, not str"),
    ],
)
def test_a_kind_that_cannot_be_routed_is_refused(kind: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        check_kind(kind)
    assert str(caught.value) == message


def test_a_name_has_the_limit_of_its_sort_and_is_named() -> None:
    assert check_name("k" * 1024, "key", 1024) == "k" * 1024
    with pytest.raises(ValueError, match=r"^key is 1025 bytes, the limit is 1024$"):
        check_name("k" * 1025, "key", 1024)


def test_only_a_name_that_may_be_empty_is() -> None:
    assert check_name("", "exchange", empty=True) == ""
    with pytest.raises(ValueError, match=r"^routing_key is empty$"):
        check_name("", "routing_key")


def test_no_headers_are_an_empty_dict() -> None:
    assert check_headers(None) == check_headers({}) == {}


def test_headers_come_back_as_a_dict_of_their_own() -> None:
    given_headers = {"tenant": "acme", "note": "line\nline", "empty": "", "X-Outbound": "yes"}
    checked = check_headers(given_headers)
    assert checked == given_headers
    assert checked is not given_headers


@pytest.mark.parametrize(
    ("headers", "error", "message"),
    [
        ({"a": 1}, TypeError, "header 'a' is int, not str"),
        ({"a": None}, TypeError, "header 'a' is NoneType, not str"),
        ({1: "a"}, TypeError, "a header's name is int, not str"),
        ([("a", "b")], TypeError, "headers are a mapping of str to str, not list"),
        ("", TypeError, "headers are a mapping of str to str, not str"),
        ({"": "a"}, ValueError, "header name '' is empty"),
        ({"é" * 128: "a"}, ValueError, f"header name '{chr(92)}xe9"),
        ({"a\nb": "c"}, ValueError, "header name 'a\\nb' holds a control character"),
        ({"\ud800": "c"}, ValueError, "header name '\\ud800' holds a lone surrogate"),
        ({"x-outbox-version": "1"}, ValueError, "header name 'x-outbox-version' begins with x-outbox-"),
        ({"X-Outbox-New": "1"}, ValueError, "header name 'X-Outbox-New' begins with x-outbox-"),
        ({"compression": "zip"}, ValueError, "header name 'compression' would make kombu's consumers"),
        ({"a": "b\0"}, ValueError, "header 'a' holds U+0000, which cannot be stored"),
        ({"a": "\udfff"}, ValueError, "header 'a' holds a lone surrogate"),
    ],
)
def test_a_header_that_cannot_be_carried_is_refused_by_name(
    headers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        check_headers(headers)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_headers_may_not_be_over_16_kib_together() -> None:
    assert check_headers({"a": "x" * (MAX_HEADERS - 1)})
    with pytest.raises(ValueError, match=r"^headers are 16385 bytes, the limit is 16384: "):
        check_headers({"a": "x" * 8_000, "bcd": "é" * 4_190 + "x"})


def test_a_refused_header_does_not_show_its_value() -> None:
    with pytest.raises(ValueError, match="U\\+0000") as caught:
        check_headers({"authorization": "secret\0"})
    assert "secret" not in str(caught.value)


@given(st.text() | st.binary() | st.none() | st.integers())
def test_any_kind_is_accepted_or_refused_and_never_breaks(kind: Any) -> None:
    try:
        checked = check_kind(kind)
    except (TypeError, ValueError):
        return
    assert checked == kind
    assert 1 <= len(checked.encode()) <= 255
    assert not set(checked) & {"*", "#", "\0", "\n", "\r", "\x7f"}
