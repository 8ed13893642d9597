"""Turns a payload into the type that a handler asked for with ``model=``: pydantic, msgspec or a dataclass.

The library is the caller's: none is imported here. What does not fit is said without the values, which are
other people's data.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

Parser = Callable[[bytes, Any], Any]
"""Takes the body and the decoded payload, returns the model's object, raises ``Misfit``."""


class Misfit(ValueError):
    """The payload does not fit the model."""


def parser(model: Any) -> Parser:
    """Return what parses payloads into ``model``.

    Raises:
        TypeError: It is not a model of pydantic, a Struct of msgspec or a dataclass.
    """
    if hasattr(model, "model_validate_json"):
        return _pydantic(model)
    if hasattr(model, "__struct_fields__"):
        return _msgspec(model)
    if dataclasses.is_dataclass(model) and isinstance(model, type):
        return lambda _body, payload: convert(payload, model, "$")
    raise TypeError(f"model={model!r} is no model of pydantic, no Struct of msgspec and no dataclass")


def _pydantic(model: Any) -> Parser:
    def parse(body: bytes, _payload: Any) -> Any:
        try:
            return model.model_validate_json(body)
        except ValueError as error:
            raise Misfit(_pydantic_words(error)) from None

    return parse


def _pydantic_words(error: Any) -> str:
    told = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(['$', *map(str, each['loc'])])}: {each['msg']}" for each in told)


def _msgspec(model: Any) -> Parser:
    msgspec = sys.modules["msgspec"]  # whoever made a Struct has loaded it

    def parse(body: bytes, _payload: Any) -> Any:
        try:
            return msgspec.json.decode(body, type=model)
        except msgspec.ValidationError as error:
            raise Misfit(str(error)) from None

    return parse


# --- dataclasses: the way back from what outbox.payload wrote ---

_FROM_TEXT: Final[Mapping[type, Callable[[str], Any]]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}


def convert(value: Any, wanted: Any, path: str) -> Any:
    """Return a value of JSON as the type that an annotation asks for.

    Args:
        value: Decoded JSON.
        wanted: The annotation: what JSON has, dataclasses, enums, dates, UUID, Decimal, Literal, unions, and
            lists, tuples, sets and dicts of them. Other types take the value as it is.
        path: Where the value stands.

    Raises:
        Misfit: It does not fit.
    """
    origin = get_origin(wanted) or wanted
    if origin in (Union, types.UnionType):
        return _one_of(value, get_args(wanted), path)
    if origin is Literal:
        return _known(value, get_args(wanted), path)
    return _typed(value, origin, get_args(wanted), path) if isinstance(origin, type) else value


def _typed(value: Any, origin: type, inner: tuple[Any, ...], path: str) -> Any:
    if dataclasses.is_dataclass(origin):
        return _object(value, origin, path)
    if issubclass(origin, Enum):
        return _read(origin, value, path)
    if origin in _FROM_TEXT:
        return _read(_FROM_TEXT[origin], _exactly(value, str, path), path)
    return _container(value, origin, inner, path)


def _object(value: Any, model: type, path: str) -> Any:
    given = _exactly(value, dict, path)
    hints = get_type_hints(model)
    fields = {field.name: field for field in dataclasses.fields(model) if field.init}
    for name in given:
        if name not in fields:
            raise Misfit(f"{path}.{name}: {model.__name__} has no such field")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise Misfit(f"{path}.{name}: missing")
    converted = {name: convert(item, hints[name], f"{path}.{name}") for name, item in given.items()}
    return _read(lambda fields: model(**fields), converted, path, model.__name__)


def _container(value: Any, wanted: type, inner: tuple[Any, ...], path: str) -> Any:
    if issubclass(wanted, Mapping) and not issubclass(wanted, str):
        of = inner[1] if len(inner) > 1 else Any
        return {key: convert(item, of, f"{path}.{key}") for key, item in _exactly(value, dict, path).items()}
    if issubclass(wanted, tuple) and inner and inner[-1] is not Ellipsis:
        return _row(_exactly(value, list, path), inner, path)
    if issubclass(wanted, Sequence | set | frozenset) and not issubclass(wanted, str | bytes):
        items = [convert(item, inner[0] if inner else Any, path) for item in _exactly(value, list, path)]
        return wanted(items) if wanted in (tuple, set, frozenset) else items
    return _scalar(value, wanted, path)


def _row(values: list[Any], inner: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if len(values) != len(inner):
        raise Misfit(f"{path}: {len(inner)} items wanted, {len(values)} given")
    return tuple(convert(item, of, path) for item, of in zip(values, inner, strict=True))


def _scalar(value: Any, wanted: type, path: str) -> Any:
    if wanted is object:
        return value
    if wanted is float and type(value) is int:
        return float(value)
    if wanted in (int, float, str, bool, types.NoneType):
        return _exactly(value, wanted, path)
    return value


def _one_of(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    for choice in choices:
        try:
            return convert(value, choice, path)
        except Misfit as error:
            last = error
    raise last


def _known(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    if value in choices:
        return value
    raise Misfit(f"{path}: none of {', '.join(map(repr, choices))}")


def _exactly(value: Any, wanted: type, path: str) -> Any:
    if type(value) is not wanted:
        raise Misfit(f"{path}: {wanted.__name__} wanted, {type(value).__name__} given")
    return value


def _read(reader: Callable[[Any], Any], value: Any, path: str, name: str | None = None) -> Any:
    """Let a type read its own spelling. What it says of a value it refuses may quote it, so it is lost."""
    try:
        return reader(value)
    except (ValueError, TypeError, InvalidOperation):
        what = name or reader.__qualname__.partition(".")[0]
        raise Misfit(f"{path}: not readable as {what}") from None
