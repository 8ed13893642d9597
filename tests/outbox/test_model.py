"""Payloads become models, or are refused without quoting them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pydantic
import pytest

from outbox import payload
from outbox.model import Misfit, parser


class Colour(Enum):
    """An enum."""

    RED = "red"


@dataclass
class Line:
    """Within an order."""

    sku: str
    count: int


@dataclass
class Order:
    """Everything that a dataclass may hold."""

    id: UUID
    total: Decimal
    at: datetime
    day: date
    hour: time
    colour: Colour
    lines: list[Line]
    pair: tuple[int, str]
    tags: set[str] = field(default_factory=set)
    weights: dict[str, float] = field(default_factory=dict)
    note: str | None = None
    size: Literal["s", "m"] = "s"
    anything: Any = None
    rest: tuple[int, ...] = ()


class PydanticOrder(pydantic.BaseModel):
    """A model of pydantic, and a strict one: JSON has no UUID."""

    model_config = pydantic.ConfigDict(strict=True)
    id: UUID
    at: datetime
    lines: list[int]


class MsgspecOrder(msgspec.Struct):
    """A Struct of msgspec."""

    id: UUID
    at: datetime
    lines: list[int]


ORDER = Order(
    UUID(int=7),
    Decimal("129.90"),
    datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    date(2026, 1, 2),
    time(3, 4),
    Colour.RED,
    [Line("a", 1)],
    (1, "x"),
    {"t"},
    {"w": 1.0},
    "note",
    "m",
    {"k": [1]},
    (1, 2, 3),
)


def parse(model: Any, value: Any) -> Any:
    body, _ = payload.encode(value)
    return parser(model)(body, payload.decode(body, "application/json"))


def test_what_add_wrote_a_dataclass_reads() -> None:
    given = {**ORDER.__dict__, "tags": ["t"]}
    assert parse(Order, given) == ORDER


@pytest.mark.parametrize("model", [PydanticOrder, MsgspecOrder])
def test_what_add_wrote_a_model_reads(model: Any) -> None:
    order = model(id=UUID(int=7), at=datetime(2026, 1, 2, tzinfo=UTC), lines=[1, 2])
    assert parse(model, order) == order


BASE = json.loads(payload.encode({**ORDER.__dict__, "tags": ["t"]})[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "SECRET"}, "$.id: not readable as UUID"),
        ({"total": "SECRET"}, "$.total: not readable as Decimal"),
        ({"at": "SECRET"}, "$.at: not readable as datetime"),
        ({"colour": "SECRET"}, "$.colour: not readable as Colour"),
        ({"lines": [{"sku": "a", "count": "SECRET"}]}, "$.lines.count: int wanted, str given"),
        ({"lines": "SECRET"}, "$.lines: list wanted, str given"),
        ({"lines": [{"sku": "a"}]}, "$.lines.count: missing"),
        ({"pair": [1]}, "$.pair: 2 items wanted, 1 given"),
        ({"weights": {"w": "SECRET"}}, "$.weights.w: float wanted, str given"),
        ({"note": 3}, "$.note: NoneType wanted, int given"),
        ({"size": "SECRET"}, "$.size: none of 's', 'm'"),
        ({"extra": 1}, "$.extra: Order has no such field"),
        ({"lines": [{"sku": True, "count": 1}]}, "$.lines.sku: str wanted, bool given"),
    ],
)
def test_what_does_not_fit_a_dataclass_is_named_by_its_path(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Misfit) as error:
        parse(Order, {**BASE, **change})
    assert str(error.value) == said


@pytest.mark.parametrize("model", [PydanticOrder, MsgspecOrder])
@pytest.mark.parametrize("value", [{"id": "SECRET", "at": 1, "lines": []}, {}, [], "SECRET"])
def test_what_does_not_fit_a_model_is_told_without_its_values(model: Any, value: Any) -> None:
    with pytest.raises(Misfit) as error:
        parse(model, value)
    assert "SECRET" not in str(error.value)
    assert str(error.value)


@dataclass
class Picky:
    """A dataclass that checks itself."""

    age: int

    def __post_init__(self) -> None:
        if self.age < 0:
            raise ValueError(f"SECRET {self.age}")


def test_a_dataclass_may_check_itself() -> None:
    with pytest.raises(Misfit, match="not readable as Picky"):
        parse(Picky, {"age": -1})


@pytest.mark.parametrize("model", [dict, int, "Order", Colour, ORDER])
def test_what_is_no_model_is_refused_at_once(model: Any) -> None:
    with pytest.raises(TypeError, match="no model"):
        parser(model)
