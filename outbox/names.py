"""Checks the short texts of a job before any SQL: kind, key, exchange, routing key, headers.

The broker, the database and the logs each refuse or mangle some texts, later and without saying which job it
was. Does not check payloads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_NAME = 255  # bytes: a short string of AMQP
MAX_KEY = 1_024  # bytes
MAX_HEADERS = 16_384  # bytes, names and values together: they share one AMQP frame
RESERVED = "x-outbox-"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_name(value: object, what: str, limit: int = MAX_NAME, *, empty: bool = False) -> str:
    """Return a name as an exact str, or refuse it.

    Args:
        value: The name.
        what: What the message calls it.
        limit: Largest size, in bytes of UTF-8.
        empty: Whether it may be empty, as the default exchange is and the routing key of a fanout.

    Raises:
        TypeError: It is not a str.
        ValueError: It is empty, too long, no Unicode text, or holds control characters.
    """
    name = _exact(value, what)
    size = _size(name, what)
    if size > limit:
        raise ValueError(f"{what} is {size} bytes, the limit is {limit}")
    if not size and not empty:
        raise ValueError(f"{what} is empty")
    if not name.isprintable() and _CONTROL.search(name):
        raise ValueError(f"{what} holds a control character")
    return name


def check_kind(kind: str) -> str:
    """Return a kind as an exact str, or refuse it: it is a routing key, so it holds no wildcard.

    Raises:
        TypeError: It is not a str.
        ValueError: It is empty, over 255 bytes, no Unicode text, or holds control characters, `*` or `#`.
    """
    name = check_name(kind, "kind")
    if "*" in name or "#" in name:
        raise ValueError("kind holds * or #, which are wildcards to a broker")
    return name


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return headers as a dict of exact str, or refuse them.

    Raises:
        TypeError: They are no mapping, or a name or value is not a str.
        ValueError: A name is empty, over 255 bytes, reserved, or holds control characters; a value is no
            Unicode text or holds U+0000; or all of them together are over 16 KiB.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers are a mapping of str to str, not {type(headers).__name__}")
    checked: dict[str, str] = {}
    total = 0
    for name, value in headers.items():
        exact = _header_name(name)
        what = f"header {exact!a}"
        text = _exact(value, what)
        total += _size(exact, what) + _size(text, what)
        if "\0" in text:
            raise ValueError(f"{what} holds U+0000, which cannot be stored")
        checked[exact] = text
    if total > MAX_HEADERS:
        raise ValueError(
            f"headers are {total} bytes, the limit is {MAX_HEADERS}: the payload is the place for more"
        )
    return checked


def _header_name(name: object) -> str:
    what = f"header name {name[:MAX_NAME]!a}" if isinstance(name, str) else "a header's name"
    exact = check_name(name, what)
    if exact.lower().startswith(RESERVED):
        raise ValueError(f"{what} begins with {RESERVED}, which is reserved")
    if exact == "compression":  # kombu unpacks a body by it while it receives, and fails
        raise ValueError(f"{what} would make kombu's consumers decompress the body")
    return exact


def _exact(value: object, what: str) -> str:
    """Return a str itself, whatever a subclass (an enum's member, say) answers when it is asked."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {type(value).__name__}, not str")
    return str.__str__(value)


def _size(text: str, what: str) -> int:
    """Return the bytes of a text in UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds a lone surrogate, which is not Unicode text") from None
