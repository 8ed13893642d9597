"""Checks and encodes what an application hands to `add`, before any SQL, and decodes what a consumer got.

A payload that the database, the broker or another language would refuse later is refused here, by name, while
the caller's transaction is still usable. Knows nothing of rows, brokers or transactions.
"""

from __future__ import annotations

import json
import math
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn

from outbox.names import check_name
from outbox.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["JSON", "LIMIT", "MAX_DEPTH", "MAX_DIGITS", "DecodeError", "decode", "encode", "is_json", "plain"]

JSON = "application/json"
LIMIT = 131_072  # bytes of a payload
MAX_DEPTH = 64  # PostgreSQL's stack and many readers of JSON give up far below what Python can nest
MAX_DIGITS = 4_300  # of an integer: what Python itself reads back by default

_TOO_BIG = 10**MAX_DIGITS
_CHEAP = frozenset({str, float, bool, NoneType})  # the writer takes them, or refuses them by itself
_NATIVE = _CHEAP | {int, dict, list}
_MAX_STEPS = 32  # from an object to something native; a hook that needs more goes round in circles
_MAX_SHOWN = 160  # characters of a path, or of a hook's words, that an error repeats
_NUL = "\\u0000"  # as the writer writes it

Path = tuple[str | int, ...]


class DecodeError(ValueError):
    """A body is not what its content type says. The message never repeats the body: it may hold secrets."""


def encode(payload: Any, content_type: str | None = None, *, limit: int = LIMIT) -> tuple[bytes, str]:
    """Turn a payload into the bytes that will be published, or refuse it.

    Args:
        payload: Anything that is JSON or that `plain` can make so; or bytes, kept as they are.
        content_type: Media type of the result, `application/json` by default. Bytes need one; a str with a
            type that is not JSON becomes UTF-8 text.
        limit: Largest result, in bytes.

    Returns:
        The body and its content type.

    Raises:
        TypeError: Something in the payload cannot be written; the message names its path, as in `$.total`.
        ValueError: A value is not allowed (NaN, a lone surrogate, U+0000, too deep, too many digits), the
            result is larger than `limit`, or the content type is none.
    """
    if content_type is not None:
        content_type = _media_type(content_type)
    if isinstance(payload, bytes | bytearray | memoryview):
        body = _given(bytes(payload), content_type)
    elif content_type is None or is_json(content_type):
        body = _json(payload)
    else:
        body = _text(payload, content_type)
    if len(body) > limit:
        raise ValueError(
            f"the payload is {len(body)} bytes, the limit is {limit}: keep it in a store and send its "
            "address (claim check), or give this call a larger max_bytes"
        )
    return body, content_type or JSON


def decode(body: bytes, content_type: str) -> Any:
    """Read a body: strict JSON where the content type is JSON, the bytes themselves where it is not.

    Raises:
        DecodeError: The body is not JSON in UTF-8, or holds a number or a depth that Python cannot read.
    """
    if not is_json(content_type):
        return body
    try:
        return _read(str(body, "utf-8"))
    except UnicodeDecodeError as error:
        raise DecodeError(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DecodeError(f"the body is not JSON at character {error.pos}") from None
    except RecursionError:
        raise DecodeError("the body is nested too deeply") from None
    except ValueError:
        raise DecodeError("the body holds a number that is not finite or has too many digits") from None


def is_json(content_type: str) -> bool:
    """Say whether a content type means JSON: `application/json` or `…+json`, parameters or none."""
    if content_type == JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or media_type.endswith("+json")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("beyond the range of a float")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# By default json gives inf for 1e400, and takes NaN and Infinity, which are not JSON at all.
_read = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant).decode

# Depth is bounded before anything is written, so the writer need not look for cycles.
_write = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, check_circular=False, separators=(",", ":")
).encode


def _media_type(content_type: str) -> str:
    checked = check_name(content_type, "content_type")
    if "/" not in checked:
        raise ValueError(f"content_type {checked!a} is no media type, such as {JSON}")
    return checked


def _given(body: bytes, content_type: str | None) -> bytes:
    """Take bytes as they are; those that are said to be JSON must be, or every consumer would bury them."""
    if content_type is None:
        raise TypeError("a payload of bytes needs a content_type")
    if is_json(content_type):
        try:
            _json(decode(body, content_type))
        except ValueError as error:
            raise ValueError(f"bytes with content_type {content_type}: {error}") from None
    return body


def _text(payload: Any, content_type: str) -> bytes:
    if not isinstance(payload, str):
        raise TypeError(f"content_type {content_type} takes bytes or str, not {type(payload).__name__}")
    try:
        return str.encode(payload)
    except UnicodeEncodeError:
        raise ValueError("the payload holds a lone surrogate, which is not Unicode text") from None


def _json(payload: Any) -> bytes:
    """Write JSON: at once what is native, as most payloads are; whatever else after the slow walk."""
    if _is_native(payload, MAX_DEPTH):
        try:
            text = _write(payload)
            if _NUL not in text:
                return text.encode()
        except ValueError:
            pass  # NaN or a lone surrogate: the walk finds out where
    return _write(_walk(payload, ())).encode()


def _is_native(value: Any, room: int) -> bool:
    """Say whether the writer would write just this. Keys that are not str it would change in silence."""
    kind = type(value)
    if kind is int:
        return bool(-_TOO_BIG < value < _TOO_BIG)
    if kind is dict and room:
        for key in value:
            if type(key) is not str:
                return False
        return _are_native(value.values(), room - 1)
    if kind is list and room:
        return _are_native(value, room - 1)
    return kind in _CHEAP


def _are_native(values: Iterable[Any], room: int) -> bool:
    # A plain loop: this runs in every add, and all() of a generator takes a third longer.
    for item in values:  # noqa: SIM110
        if type(item) not in _CHEAP and not _is_native(item, room):
            return False
    return True


def _walk(value: Any, path: Path) -> Any:
    """Return the value made of native parts alone, or raise with the path of the part that cannot be."""
    value = _native(value, path)
    if isinstance(value, dict | list) and len(path) == MAX_DEPTH:
        raise _refusal(ValueError, path, f"nested deeper than {MAX_DEPTH}, or within itself")
    match value:
        case dict():
            return _walk_dict(value, path)
        case list():
            return [_walk(item, (*path, index)) for index, item in enumerate(value)]
        case str():
            return _text_of(value, path)
        case int() if not -_TOO_BIG < value < _TOO_BIG:
            raise _refusal(ValueError, path, f"an integer of more than {MAX_DIGITS} digits")
        case float() if not math.isfinite(value):
            raise _refusal(ValueError, path, f"{value} is not JSON")
    return value


def _walk_dict(value: dict[Any, Any], path: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _refusal(TypeError, path, f"a key is {type(key).__name__}, keys are str")
        name = str.__str__(key)
        inside = (*path, name)
        _text_of(name, inside)
        if name in result:  # objects of a subclass of str may spell the same and still differ
            raise _refusal(ValueError, inside, "two keys are spelt the same")
        result[name] = _walk(item, inside)
    return result


def _native(value: Any, path: Path) -> Any:
    """Ask `plain` until the value is of a native type itself."""
    for _step in range(_MAX_STEPS):
        if type(value) in _NATIVE:
            return value
        try:
            value = plain(value)
        except TypeError as error:
            raise _refusal(TypeError, path, str(error)) from error
        except ValueError as error:
            raise _refusal(ValueError, path, str(error)) from error
        except RecursionError:
            why = f"{type(value).__name__} is nested too deeply, or within itself"
            raise _refusal(ValueError, path, why) from None
    raise _refusal(TypeError, path, f"outbox.payload.plain never gets from {type(value).__name__} to JSON")


def _text_of(text: str, path: Path) -> str:
    if "\0" in text:
        raise _refusal(ValueError, path, "U+0000 cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal(ValueError, path, "a lone surrogate is not Unicode text") from None
    return text


def _refusal(error: type[TypeError | ValueError], path: Path, why: str) -> TypeError | ValueError:
    """Return the error for what stands at `path`, in one short line whatever the keys and the hooks say."""
    where = "$" + "".join(map(_shown, path))
    if len(where) > _MAX_SHOWN:
        where = f"{where[: _MAX_SHOWN // 2]}…{where[-_MAX_SHOWN // 2 :]}"
    return error(f"{where}: {' '.join(why.split())[:_MAX_SHOWN]}")


def _shown(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step)}]"
