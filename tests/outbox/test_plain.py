"""Objects become plain values in one known way, and applications add their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from strategies import Number, Thing, Word

from outbox import payload
from outbox.payload import encode
from outbox.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable


class Shout(str):
    """A str that claims to be another."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Apart(str):
    """A str that is never equal to its twin."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Cents(int):
    """An int that claims to be text."""

    def __repr__(self) -> str:
        return "a lot"

    __str__ = __repr__


class Mean(float):
    """A float that claims to be text."""

    def __repr__(self) -> str:
        return "NaN"


class Doubled(dict[str, Any]):
    """A dict whose items are not what it stores."""

    def items(self) -> Any:
        return [("a", 1), ("a", 2)]


class Colour(str, Enum):  # noqa: UP042 # the old spelling, which many applications use
    """An enum that is a str in the old way."""

    RED = "red"


Point = namedtuple("Point", "x y")  # noqa: PYI024 # the plain one is what is tested


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("129.90"), "129.90"),
        (Decimal("1E+131071"), "1E+131071"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (time(3, 4, 5), "03:04:05"),
        (Word.PAID, "paid"),
        (Colour.RED, "red"),
        (Number.SEVEN, 7),
        (Thing.PRICE, "129.90"),
        (True, True),
        ({Word.PAID: {Colour.RED: 1}}, {"paid": {"red": 1}}),
        ((1, (2,)), [1, [2]]),
        (Point(1, Decimal(2)), [1, "2"]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Shout("quiet"), "quiet"),
        ({Shout("quiet"): 1}, {"quiet": 1}),
        (Cents(129), 129),
        (Mean(0.5), 0.5),
        (Doubled(a=7), {"a": 2}),
        ("\\u0000", "\\u0000"),
        ("\u2028é\U0001f600", "\u2028é\U0001f600"),
    ],
)
def test_what_people_hand_over_is_written_in_one_known_way(value: Any, written: Any) -> None:
    assert json.loads(encode(value)[0]) == written
    assert json.loads(encode({"deep": [value]})[0]) == {"deep": [written]}


def test_two_keys_that_are_spelt_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^\$\.a: two keys are spelt the same$"):
        encode({Apart("a"): 1, Apart("a"): 2})


@dataclass
class Line:
    """A line of an order, as a dataclass."""

    sku: str
    price: Decimal
    tags: list[Any] = field(default_factory=list)


class Model(pydantic.BaseModel):
    """An order, as a pydantic model."""

    id: UUID
    at: datetime
    total: Decimal


class Struct(msgspec.Struct, rename="camel", tag="order"):
    """An order, as a msgspec structure."""

    order_id: int
    total: Decimal
    note: str | msgspec.UnsetType = msgspec.UNSET


class Attrs:
    """What a class of attrs looks like from outside."""

    __attrs_attrs__ = (SimpleNamespace(name="sku"),)

    def __init__(self) -> None:
        self.sku = "a"


def test_a_dataclass_is_written_by_its_fields() -> None:
    written = json.loads(encode([Line("a", Decimal(1), tags=[Line("b", Decimal(2))])])[0])
    assert written == [{"sku": "a", "price": "1", "tags": [{"sku": "b", "price": "2", "tags": []}]}]


def test_a_model_of_pydantic_is_written_as_pydantic_would() -> None:
    model = Model(id=UUID(int=1), at=datetime(2026, 1, 2, tzinfo=UTC), total=Decimal("1.50"))
    assert json.loads(encode({"order": model})[0]) == {"order": json.loads(model.model_dump_json())}


def test_a_structure_of_msgspec_is_written_as_msgspec_would() -> None:
    written = json.loads(encode({"order": Struct(7, Decimal("1.50"))})[0])
    assert written == {"order": {"type": "order", "orderId": 7, "total": "1.50"}}


def test_what_msgspec_does_not_know_is_asked_of_the_hook() -> None:
    class Basket(msgspec.Struct):
        lines: dict[int, Any]

    class Gram:
        pass

    plain.register(Gram, lambda value: "1 g")
    assert json.loads(encode(Basket({7: Gram()}))[0]) == {"lines": {"7": "1 g"}}
    with pytest.raises(TypeError, match=r"^\$\.basket: object cannot be written as JSON; register it"):
        encode({"basket": Basket({7: object()})})


def test_a_class_of_attrs_is_written_by_its_fields() -> None:
    assert json.loads(encode(Attrs())[0]) == {"sku": "a"}


def test_a_dataclass_that_holds_itself_is_refused() -> None:
    line = Line("a", Decimal(1))
    line.tags.append(line)
    with pytest.raises(ValueError, match="nested deeper than 64, or within itself"):
        encode(line)


def test_a_structure_that_holds_itself_is_refused() -> None:
    class Node(msgspec.Struct):
        inner: Any = None

    node = Node()
    node.inner = node
    with pytest.raises(ValueError, match=r"^\$: Node is nested too deeply, or within itself$"):
        encode(node)


class Money:
    """A type of an application's own."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def test_an_application_registers_its_own_types() -> None:
    @plain.register
    def _(value: Money) -> Any:
        return {"cents": value.cents, "text": Decimal(value.cents) / 100}

    assert json.loads(encode([Money(150)])[0]) == [{"cents": 150, "text": "1.5"}]


@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (lambda value: value, TypeError, r"^\$\.a: outbox\.payload\.plain never gets from Round to JSON$"),
        (lambda value: int("x\ny"), ValueError, r"^\$\.a: invalid literal [^\n]*$"),
        (lambda value: {1: 2}, TypeError, r"^\$\.a: a key is int, keys are str$"),
    ],
)
def test_a_hook_that_fails_is_reported_with_the_path(
    hook: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    class Round:
        pass

    plain.register(Round, hook)
    with pytest.raises(error, match=message):
        encode({"a": Round()})


def test_neither_pydantic_nor_msgspec_is_imported() -> None:
    code = (
        "import sys, outbox.payload; "
        "print({name.partition('.')[0] for name in sys.modules} & {'pydantic', 'msgspec', 'attr', 'kombu'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"


def test_the_hook_that_errors_name_is_where_they_say() -> None:
    assert payload.plain is plain
