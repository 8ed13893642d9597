"""A row's destination: the same in Python as in the index, whatever the names are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from relays import add, row

from relay.ledger import DESTINATION, Ledger
from relay.row import COLUMNS, Row, prefixed, readable

if TYPE_CHECKING:
    from databases import Database

    from relay.term import Term

NAMES = [
    (None, None, "order.paid"),
    ("e", None, "order.paid"),
    (None, "r", "order.paid"),
    ("e", "r", "order.paid"),
    ("", "queue", "order.paid"),
    ("", "", "k"),
    ("exchange with 'quotes'", "ключ", "größe.😀"),
]


@pytest.mark.parametrize(("exchange", "routing_key", "kind"), NAMES)
def test_the_destination_is_the_index_expression(
    database: Database, exchange: str | None, routing_key: str | None, kind: str
) -> None:
    add(database, exchange=exchange, routing_key=routing_key, kind=kind)
    expected = row(exchange=exchange, routing_key=routing_key, kind=kind).destination
    with database.connect() as connection:
        found = connection.execute(f"SELECT {DESTINATION} FROM outbox.job").fetchone()
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            f"EXPLAIN SELECT FROM outbox.job WHERE state = 'parked' AND {DESTINATION} = 'x' ORDER BY line"
        ).fetchall()
    assert found == (expected,)
    assert "Index Scan using job_parked" in plan[0][0]


def test_destinations_differ_where_ways_do() -> None:
    destinations = {row(exchange=e, routing_key=r, kind=k).destination for e, r, k in NAMES}
    assert len(destinations) == len(NAMES)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((None, None, "a.b"), "a.b"),
        (("e", None, "a.b"), "a.b (exchange 'e')"),
        ((None, "r", "a.b"), "a.b (routing key 'r')"),
        (("", "r", "a.b"), "a.b (exchange '', routing key 'r')"),
    ],
)
def test_a_destination_is_told_in_words(names: tuple[str | None, str | None, str], told: str) -> None:
    exchange, routing_key, kind = names
    assert readable(row(exchange=exchange, routing_key=routing_key, kind=kind).destination) == told


def test_columns_are_the_fields_in_their_order() -> None:
    assert [name.strip() for name in COLUMNS.split(",")] == list(Row._fields)
    assert prefixed("j").startswith("j.id, j.version, ")


def test_a_row_comes_out_as_it_went_in(database: Database, term: Term) -> None:
    (job,) = add(
        database, kind="a.b", payload=b"\x00\xff", headers='{"trace": "x"}', exchange="e", routing_key="r"
    )
    (read,) = Ledger(term).keyless(after=0, upto=10, mine=[], rows=10, size=1000).rows
    assert (read.id, read.version, read.pos, read.ident) == (job, 1, 1, (job, 1))
    assert (read.payload, read.headers, read.tracked) == (b"\x00\xff", {"trace": "x"}, True)
    assert read.created_at.tzinfo is not None
