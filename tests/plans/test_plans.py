"""Each hot statement finds its rows by the index that was made for it, whatever the table holds.

The table is seeded with a long history and a backlog. Plans are read for these values and for any: psycopg
prepares what it repeats, and a plan for any values may be another one.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from relays import leading

from outbox.states import State
from relay import chores, keys, ledger, term
from relay.cli import listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database, Databases

    from relay.backend import Backend

SEED = """
INSERT INTO outbox.job (id, kind, key, payload, state, attempt, tracked, available_at,
                        published_at, finished_at, lease_until)
SELECT gen_random_uuid(), 'kind.' || n %% 20, CASE WHEN n %% 3 = 0 THEN 'key ' || n %% 5000 END,
       convert_to(repeat('x', 200), 'UTF8'), s, (s IN ('scheduled', 'running'))::int, n %% 5 > 0, ago,
       CASE WHEN s = 'published' THEN ago END,
       CASE WHEN s IN ('succeeded', 'cancelled', 'dead') THEN ago END,
       CASE WHEN s = 'running' THEN ago END
FROM generate_series(1, %(count)s) n,
     (SELECT %(state)s::text, clock_timestamp() - interval '30 days') state (s, ago)
"""
COUNTS = {
    "succeeded": 200_000,
    "pending": 50_000,
    "published": 20_000,
    "parked": 20_000,
    "scheduled": 10_000,
    "dead": 2_000,
    "cancelled": 2_000,
    "running": 1_000,
}

IDS = [uuid.uuid4() for _ in range(1000)]
FENCE = {"token": uuid.uuid4(), "term": 1}
NAMED = {"ids": IDS, "versions": [1] * 1000} | FENCE
RANGE = {"mine": IDS, "rows": 1000, "bytes": 8_000_000}
HEADS = {
    "keys": [f"key {n}" for n in range(1000)], "floors": list(range(1000)), "seen": "700:900:750,800",
    "mine": [], "rows": 500, "bytes": 8_000_000, "depth": 1, "serial": False,
}  # fmt: skip
BATCH = {"rows": 500, "after": 600.0, "kind": "kind.3"} | FENCE
DESTINATION = {"destination": "*\x1f*\x1fkind.3", "rows": 500, "busy": ["key 1"]} | FENCE


class Statement(NamedTuple):
    """A statement, an example of its values, and the indexes that it uses on jobs, always or perhaps."""

    sql: str
    values: dict[str, Any]
    indexes: set[str]
    perhaps: frozenset[str] = frozenset()


PKEY, KEYLESS, KEYED, ARRIVED, HOLDING, PARKED = (
    "job_pkey", "job_pending_keyless", "job_pending_keyed", "job_pending_arrived", "job_holding",
    "job_parked",
)  # fmt: skip
ANY_ORDER = frozenset({"job_unfinished"})  # the plan for any values holds what serial order needs
STATEMENTS = {
    "front": Statement(ledger.KEYLESS, RANGE | {"after": 290_000, "upto": 2**62}, {KEYLESS}),
    "front at zero": Statement(ledger.KEYLESS, RANGE | {"after": 0, "upto": 2**62}, {KEYLESS}),
    "sweep": Statement(ledger.KEYLESS, RANGE | {"after": 200_000, "upto": 220_000}, {KEYLESS}),
    "strict": Statement(keys.HEADS, HEADS, {KEYED, HOLDING}, ANY_ORDER),
    "serial": Statement(keys.HEADS, HEADS | {"serial": True}, {KEYED, HOLDING, "job_unfinished"}),
    "pipelined": Statement(keys.HEADS, HEADS | {"depth": 16, "mine": IDS}, {KEYED, HOLDING}, ANY_ORDER),
    "arrived": Statement(keys.ARRIVED, {"since": "900", "running": ["750", "800"], "rows": 5000}, {ARRIVED}),
    "walk": Statement(keys.WALK, {"xid": "0", "line": 0, "upto": "1000000", "rows": 2000}, {ARRIVED}),
    "mark": Statement(ledger.MARK, NAMED, {PKEY}),
    "park": Statement(ledger.SET_ASIDE, NAMED | {"state": "parked", "reason": "down"}, {PKEY}),
    "still pending": Statement(ledger.STILL_PENDING, NAMED, {PKEY}),
    "among": Statement(ledger.AMONG, NAMED | {"mine": IDS, "rows": 1}, {PKEY}),
    "unpark": Statement(ledger.UNPARK, DESTINATION, {PARKED}),
    "probe": Statement(ledger.STAGE_PROBE, DESTINATION, {PARKED, PKEY, HOLDING, KEYED}),
    "parked": Statement(ledger.PARKED, {}, {PARKED}),
    "stage": Statement(chores.STAGE, BATCH, {"job_due"}),
    "rescue": Statement(chores.RESCUE, BATCH, {"job_leased"}),
    "overdue": Statement(chores.OVERDUE, BATCH, {"job_outstanding"}),
    "overdue, adopted": Statement(chores.OVERDUE_ADOPTED, BATCH, {"job_outstanding"}),
    "redeliver, adopted": Statement(chores.REDELIVER_ADOPTED, BATCH | {"queue": "q"}, {"job_outstanding"}),
    "redeliver": Statement(chores.REDELIVER, BATCH, {"job_outstanding"}),
    "prune jobs": Statement(chores.PRUNE_JOBS, BATCH, {"job_finished"}),
    "prune events": Statement(chores.PRUNE_EVENTS, BATCH, {"job_told"}),
    "beat": Statement(term.BEAT, FENCE, set()),
    "fence": Statement(term.FENCE, FENCE, set()),
}


@pytest.fixture(scope="module")
def seeded(databases: Databases) -> Iterator[Database]:
    """A database with a long history and a backlog."""
    with databases.migrated() as database:
        with database.connect() as connection:
            connection.execute("SET session_replication_role = replica")  # states that no INSERT may have
            for state, count in COUNTS.items():
                connection.execute(SEED, {"state": state, "count": count})
        database.execute("INSERT INTO outbox.taker SELECT DISTINCT kind, 'queue' FROM outbox.job")
        database.execute("VACUUM (ANALYZE) outbox.job")
        yield database


@pytest.fixture(scope="module")
def backend(seeded: Database) -> Iterator[Backend]:
    """A leader's session, with all that it sets."""
    with leading(seeded) as won:
        yield won.backend


def custom(backend: Backend, statement: Statement) -> Any:
    """The plan for these very values."""
    row = backend.row(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.values or None)
    assert row is not None
    return row[0][0]["Plan"]


def generic(backend: Backend, statement: Statement) -> Any:
    """The plan for any values."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    sql = re.sub(r"%\((\w+)\)s", numbered, statement.sql).replace("%%", "%")
    arguments = ", ".join(literal(statement.values[name]) for name in names)
    try:
        backend.row("SET plan_cache_mode = force_generic_plan")
        backend.row(f"PREPARE hot AS {sql}")
        row = backend.row(f"EXPLAIN (FORMAT JSON) EXECUTE hot{f'({arguments})' if names else ''}")
    finally:
        backend.row("DEALLOCATE hot")
        backend.row("SET plan_cache_mode = force_custom_plan")
    assert row is not None
    return row[0][0]["Plan"]


def literal(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list):
        return "'{" + ",".join(json.dumps(str(each)) for each in value) + "}'"
    return "'" + str(value) + "'"


def scans(node: dict[str, Any], *, sorting: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each scan of a table, and whether all that it finds is sorted before a limit."""
    kind = node["Node Type"]
    sorting = (sorting or kind == "Sort") and kind not in {"Limit", "CTE Scan"}
    if "Relation Name" in node and not kind.startswith(("Modify", "LockRows")):
        yield node, sorting
    for child in node.get("Plans", []):
        # What is in a CTE is read as often as its scan asks, not as the node above it sorts.
        yield from scans(child, sorting=sorting and child.get("Parent Relationship") != "InitPlan")


@pytest.mark.parametrize("belief", ["analysed", "empty"])
@pytest.mark.parametrize("plan", [custom, generic])
@pytest.mark.parametrize("name", STATEMENTS)
def test_rows_are_found_by_the_index_that_was_made_for_them(
    seeded: Database, backend: Backend, name: str, plan: Any, belief: str
) -> None:
    with seeded.connect() as other:
        if belief == "empty":
            other.execute("UPDATE pg_class SET reltuples = 0 WHERE oid = 'outbox.job'::regclass")
        try:
            found = list(scans(plan(backend, STATEMENTS[name])))
        finally:
            if belief == "empty":
                other.execute("ANALYZE outbox.job")
    jobs = [(node, sorting) for node, sorting in found if node["Relation Name"] == "job"]
    used = {node.get("Index Name", node["Node Type"]) for node, _ in jobs}
    statement = STATEMENTS[name]
    assert statement.indexes <= used <= statement.indexes | statement.perhaps | {"Tid Scan"}
    assert not [node["Index Name"] for node, sorting in jobs if sorting and node.get("Index Name") != PKEY]


@pytest.mark.parametrize("state", [None, State.SUCCEEDED, State.CANCELLED, State.DEAD, State.SCHEDULED])
@pytest.mark.parametrize("after", [False, True])
def test_a_page_of_the_list_follows_an_index(backend: Backend, state: State | None, *, after: bool) -> None:
    which = listing.Filter(state)
    year = 2001 if state is State.SCHEDULED else 2199  # all of them are still to come
    moment = f"{year}-01-01T00:00:00+00:00" if state else str(IDS[0])
    query, values = listing.statement(which, 50, f"{moment}~{IDS[0]}" if after else None)
    row = backend.row(f"EXPLAIN (FORMAT JSON) {query}", values)
    assert row is not None
    ((node, sorting),) = scans(row[0][0]["Plan"])
    assert (node["Node Type"], sorting) == ("Index Scan", False)


def test_the_whole_table_would_be_noticed(backend: Backend) -> None:
    """The test's own eyes: a scan and a sort of the whole are seen as such."""
    statement = Statement("SELECT id FROM outbox.job ORDER BY created_at LIMIT 1", {}, set())
    ((node, sorting),) = scans(custom(backend, statement))
    assert (node["Node Type"], sorting) == ("Seq Scan", True)
