"""Says how one object becomes something closer to JSON: the hook that applications register their types with.

Does not walk into what it returns, and does not check it: `payload` does both. Imports none of the libraries
whose objects it knows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import singledispatch
from typing import Any
from uuid import UUID


@singledispatch
def plain(value: Any) -> Any:
    """Turn one object into something closer to JSON; what it returns is looked at again.

    Types of an application's own are registered with `@outbox.payload.plain.register`. Objects of pydantic,
    msgspec, attrs and dataclasses are known by their shape.

    Raises:
        TypeError: Nobody said how to write this type.
    """
    kind = type(value)
    if hasattr(kind, "model_dump"):  # pydantic
        return value.model_dump(mode="json")
    if hasattr(kind, "__struct_fields__"):  # msgspec: whoever made a Struct has loaded it
        return sys.modules["msgspec"].to_builtins(value, str_keys=True, enc_hook=plain)
    if hasattr(kind, "__dataclass_fields__"):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    raise TypeError(f"{kind.__name__} cannot be written as JSON; register it with outbox.payload.plain")


@plain.register
def _(value: Enum) -> Any:
    return value.value


@plain.register(date)  # and datetime, which is one
@plain.register(time)
def _(value: date | time) -> str:
    return value.isoformat()


@plain.register
def _(value: UUID) -> str:
    return str(value)


@plain.register
def _(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("a Decimal that is not finite cannot be written as JSON")
    return str(value)


@plain.register(Mapping)
def _(value: Mapping[Any, Any]) -> dict[Any, Any]:
    return dict(value.items())


@plain.register(list)
@plain.register(tuple)
def _(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return list(value)


# A subclass may answer anything from its __str__, __int__ or __float__: these ask the base.
@plain.register
def _(value: str) -> Any:
    return value.value if isinstance(value, Enum) else str.__str__(value)


@plain.register
def _(value: int) -> Any:
    return value.value if isinstance(value, Enum) else int.__int__(value)


@plain.register
def _(value: float) -> Any:
    return value.value if isinstance(value, Enum) else float.__float__(value)
