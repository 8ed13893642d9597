"""The examples run, from the request to the effect, with a real relay, broker and consumers."""

from __future__ import annotations

import asyncio
import importlib
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from processes import Process, Processes

EXAMPLES = Path(__file__).parents[1] / "examples"
ORDER = {"id": 7, "total": "129.90"}


@pytest.fixture
def env(database: Database, amqp_url: str) -> dict[str, str]:
    """All that an example is told."""
    return {"DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url, "OUTBOX_LOG": "json"}


@pytest.fixture
def load(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import an example as the server that runs it does, and forget it again."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    loaded: list[str] = []

    def import_it(name: str) -> Any:
        loaded.append(name)
        return importlib.import_module(name)

    yield import_it
    for name in loaded:
        del sys.modules[name]


def publish(processes: Processes, env: dict[str, str]) -> None:
    """Run a relay until everything that is due is with the broker."""
    relay = processes.outbox("relay", "--drain", env=env)
    assert relay.wait(60) == 0, relay.story()


def consumer(processes: Processes, env: dict[str, str], target: str) -> Process:
    started = processes.outbox("consume", "--app-dir", str(EXAMPLES), target, env=env)
    started.wait_event("consumer_started", 30)
    return started


def states(database: Database) -> list[tuple[str, str]]:
    return [
        (kind, state) for kind, state in database.execute("SELECT kind, state FROM outbox.job ORDER BY pos")
    ]


def receipts(database: Database) -> list[tuple[int]]:
    return database.execute("SELECT order_id FROM receipts")


def test_fastapi(
    database: Database, processes: Processes, env: dict[str, str], load: Callable[[str], Any]
) -> None:
    app = load("fastapi_app").app

    async def told() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
        ):
            taken = await client.post("/orders", json=ORDER)
            assert taken.status_code == 201
            job = f"/jobs/{taken.json()['job']}"
            assert (await client.get(job)).json() == {"kind": "order.paid", "state": "pending", "attempt": 0}
            assert (await client.post("/orders", json=ORDER)).status_code == 409
            assert (await client.get("/jobs/00000000-0000-0000-0000-000000000000")).status_code == 404
            assert states(database) == [("order.paid", "pending")]
            await asyncio.to_thread(work)
            assert (await client.get(job)).json()["state"] == "succeeded"

    def work() -> None:
        consumer(processes, env, "fastapi_app:handlers")
        publish(processes, env)
        eventually(lambda: states(database) == [("order.paid", "succeeded")])

    asyncio.run(told())
    assert receipts(database) == [(7,)]


def test_flask(
    database: Database, processes: Processes, env: dict[str, str], load: Callable[[str], Any]
) -> None:
    shop = load("flask_app")
    client = shop.app.test_client()
    first = client.post("/orders", json=ORDER)
    assert first.status_code == 201
    assert client.post("/orders", json=ORDER).status_code == 409
    second = client.post("/orders", json=ORDER | {"id": 8}).get_json()["job"]
    assert client.delete(f"/jobs/{second}").get_json() == {"state": "cancelled"}
    assert client.delete("/jobs/00000000-0000-0000-0000-000000000000").status_code == 404
    consumer(processes, env, "flask_app:handlers")
    publish(processes, env)
    eventually(lambda: ("order.paid", "succeeded") in states(database))
    assert client.delete(f"/jobs/{first.get_json()['job']}").get_json() == {"state": "succeeded"}
    assert receipts(database) == [(7,)]
    with shop.app.app_context():
        shop.db.engine.dispose()


def test_the_plain_consumer_can_read_the_address_that_it_tells(load: Callable[[str], Any]) -> None:
    example = load("plain_consumer")
    (url,) = re.findall(r"amqp://\S+", example.__doc__)
    read = example.address(url)
    assert (read.host, read.virtual_host) == ("127.0.0.1", "/")
    assert [example.address(each).virtual_host for each in ("amqp://h", "amqp://h/%2F", "amqp://h/v")] == [
        "/",
        "/",
        "v",
    ]


def test_core_and_a_consumer_that_has_none_of_our_library(
    database: Database, processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    books = tmp_path / "revenue.db"

    def run(*words: object) -> Process:
        return processes.start(sys.executable, *map(str, words), env=env)

    def booked() -> list[tuple[int, str]]:
        with closing(sqlite3.connect(books)) as opened:
            return opened.execute("SELECT order_id, total FROM revenue ORDER BY order_id").fetchall()

    accountant = run(EXAMPLES / "plain_consumer.py", books)
    eventually(lambda: "waiting" in accountant.output, 30)
    # A total below 0 breaks a rule of the application's own table: nothing of that transaction stays.
    for order_id, total, code in [(7, "129.90", 0), (8, "-1", 1), (9, "0.10", 0)]:
        assert run(EXAMPLES / "core_script.py", order_id, total).wait(30) == code
    assert states(database) == [("order.paid", "pending"), ("order.booked", "pending")] * 2
    publish(processes, env)
    eventually(lambda: len(booked()) == 2)
    send_again(database)
    publish(processes, env)
    eventually(lambda: accountant.output.count("booked {") == 4)
    assert booked() == [(7, "129.90"), (9, "0.10")]


def send_again(database: Database) -> None:
    """Make the relay send every event a second time, as after a fault."""
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # past the guard
        connection.execute("UPDATE outbox.job SET state = 'pending' WHERE NOT tracked")
