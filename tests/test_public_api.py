"""What applications import: the names, what importing them loads, and how long it takes."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import outbox

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "alembic",
    "amqp",
    "asyncpg",
    "click",
    "cronsim",
    "kombu",
    "psycopg",
    "psycopg2",
    "relay",
    "vine",
}
NAMES = {
    "Added",
    "Ahead",
    "AlreadyApplied",
    "Applied",
    "AsyncLeasedJob",
    "Bury",
    "Cancel",
    "Fired",
    "Handlers",
    "Illegal",
    "Job",
    "LeasedJob",
    "Missing",
    "Misuse",
    "New",
    "OutboxError",
    "Result",
    "Schedules",
    "Skipped",
    "Snooze",
    "State",
    "Superseded",
    "add",
    "add_all",
    "add_unique",
    "add_unique_async",
    "adopt",
    "adopt_async",
    "cancel",
    "cancel_async",
    "emit",
    "get",
    "get_async",
    "insert",
    "transition",
    "transition_async",
}


def python(code: str) -> Any:
    """Run code in a fresh interpreter and return what it prints, as JSON."""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(run.stdout)


def test_the_names_are_these_and_no_others() -> None:
    assert set(outbox.__all__) == NAMES
    assert len(outbox.__all__) == len(NAMES)
    assert set(dir(outbox)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(outbox, name))


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'publish'"):
        outbox.publish  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(outbox, "__path_to_nowhere__")


def test_importing_it_loads_nothing_of_others() -> None:
    everything = python("import sys, json, outbox; print(json.dumps(sorted(sys.modules)))")
    assert not {name.partition(".")[0] for name in everything} & {*FORBIDDEN, "sqlalchemy"}


def test_a_relay_starts_without_sqlalchemy() -> None:
    """A quarter of a second of each start, and twenty megabytes; whoever migrates and consumes has it."""
    everything = python("import sys, json, relay.loop, relay.cli; print(json.dumps(sorted(sys.modules)))")
    assert not {name.partition(".")[0] for name in everything} & {"sqlalchemy", "alembic"}


def test_importing_add_loads_sqlalchemy_and_nothing_else_of_others() -> None:
    code = """
import sys, json
import sqlalchemy.orm, sqlalchemy.dialects.postgresql
before = set(sys.modules)
from outbox import add
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    others = {name for name in python(code) if name.partition(".")[0] != "outbox"}
    assert {name for name in others if name.partition(".")[0] not in sys.stdlib_module_names} == set()
    everything = python("import sys, json; from outbox import add; print(json.dumps(sorted(sys.modules)))")
    assert not {name.partition(".")[0] for name in everything} & FORBIDDEN
    assert "sqlalchemy.ext.asyncio" not in everything  # it cannot be imported without greenlet


def test_everything_can_be_imported_without_greenlet() -> None:
    # SQLAlchemy 2.1 does not install it: who awaits nothing does not have it.
    code = """
import sys, json
sys.modules["greenlet"] = None
import outbox, outbox.consumer, outbox.runner
print(json.dumps([getattr(outbox, name).__name__ for name in outbox.__all__ if name != "Result"]))
"""
    assert python(code)


def test_adding_loads_nothing_more() -> None:
    code = """
import sys, json
from outbox import add
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
with Session(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")) as session:
    before = set(sys.modules)
    add(session, "order.paid", {"order_id": 7}, key="order:7", headers={"tenant": "a"})
    print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert python(code) == []


def test_importing_it_takes_a_tenth_of_what_sqlalchemy_takes() -> None:
    code = """
import json, time
start = time.process_time()
import sqlalchemy.orm, sqlalchemy.dialects.postgresql
between = time.process_time()
from outbox import add
print(json.dumps((time.process_time() - between) / (between - start)))
"""
    assert min(python(code) for _ in range(5)) < 0.1


def test_the_version_is_the_distributions() -> None:
    assert outbox.__version__.count(".") == 2


def test_add_says_what_it_takes() -> None:
    parameters = inspect.signature(outbox.add).parameters
    assert list(parameters) == [
        "session",
        "kind",
        "payload",
        "key",
        "headers",
        "delay",
        "at",
        "max_attempts",
        "exchange",
        "routing_key",
        "content_type",
        "max_bytes",
    ]
    told = inspect.getdoc(outbox.add) or ""
    assert all(f"{name}:" in told for name in parameters)


def test_the_options_that_are_typed_are_those_that_add_takes() -> None:
    from outbox.new import EventOptions, JobOptions, New  # noqa: PLC0415 - not public

    options = set(inspect.signature(outbox.add).parameters) - {"session", "kind", "payload"}
    assert set(JobOptions.__annotations__) | set(EventOptions.__annotations__) == options
    assert set(New.__annotations__) | options == options | {"kind", "payload", "tracked"}
