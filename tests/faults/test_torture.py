"""``outbox torture`` as users run it: the verdict, and what it leaves behind."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
from helpers import eventually

if TYPE_CHECKING:
    from faults.figures import Figures
    from processes import Process, Processes
    from servers import AnyServer, Broker

MINE = "outbox_torture_"
SHORT = ("--minutes", "0.22", "--seed", "494", "--faults")
FEW = "kill-leader,stall-relay-broker,kill-consumer,cut-writer-database"
"""With this seed the relay's broker takes nothing and then hangs up; then the others have their turn."""


def report(process: Process, figures: Figures, timeout: float = 200.0) -> dict[str, Any]:
    """Wait for the end, and return what was printed; the exit code agrees with it."""
    code = process.wait(timeout)
    told: dict[str, Any] = json.loads(process.output)
    figures.say({name: value for name, value in told.items() if isinstance(value, bool | int | float)})
    assert code == (0 if told["kept"] else 1), process.story()
    return told


def check(told: dict[str, Any]) -> None:
    """Every promise was kept, and there was something to keep."""
    assert told["kept"], told
    assert (told["lost"], told["ghosts"], told["not_flagged"], told["out_of_order"]) == (0, 0, 0, 0)
    assert told["wrong_effects"] == told["unfinished"] == 0
    assert told["committed"] > 100
    assert told["rolled_back"] > 0
    assert 0 <= told["committed"] + told["recovered"] - told["delivered"] <= told["forgotten"]
    assert told["faults"]


def databases(postgres: AnyServer) -> set[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def remains(postgres: AnyServer) -> set[str]:
    return {name for name in databases(postgres) if name.startswith(MINE)}


@pytest.mark.timeout(240)
@pytest.mark.long
def test_named_servers_are_tortured_and_left_as_they_were(
    postgres: AnyServer, rabbitmq: Broker, amqp_url: str, processes: Processes, figures: Figures
) -> None:
    host = urlsplit(amqp_url).path.removeprefix("/")

    def there() -> list[str]:
        return [rabbitmq.ctl(f"list_{what}", "-p", host, "name") for what in ("queues", "exchanges")]

    before = there()
    named = ("--database-url", postgres.url, "--broker-url", amqp_url)
    told = report(processes.outbox("torture", *SHORT, FEW, *named, "--json"), figures)
    check(told)
    assert {"kill-leader", "stall-relay-broker"} <= told["faults"].keys()
    assert not remains(postgres)
    assert there() == before


def test_an_interrupt_leaves_nothing_running_and_nothing_behind(
    postgres: AnyServer, redis_url: str, processes: Processes
) -> None:
    named = ("--database-url", postgres.url, "--broker-url", redis_url)
    process = processes.outbox("torture", *SHORT, "kill-consumer", *named)
    eventually(lambda: "are at work" in process.output, 60, every=0.2)
    (scratch,) = remains(postgres)
    assert players(scratch)
    process.signal(signal.SIGINT)
    assert process.wait(60) == 130, process.story()
    assert not players(scratch)
    assert not remains(postgres)
    with redis.Redis.from_url(redis_url) as client:
        assert not [key for key in client.scan_iter() if MINE.encode() in key]
        assert not client.hlen("unacked")


def players(scratch: str) -> list[int]:
    """Return the processes that were told of this scratch database."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is not ours
            if scratch in process.environ().values():
                found.append(process.pid)
    return found


def test_who_may_not_create_databases_is_told_so(
    postgres: AnyServer, redis_url: str, processes: Processes
) -> None:
    parts = urlsplit(postgres.url)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS torturer")
        connection.execute("CREATE ROLE torturer LOGIN PASSWORD 'x'")
    url = parts._replace(netloc=f"torturer:x@{parts.hostname}:{parts.port}").geturl()
    process = processes.outbox("torture", "--database-url", url, "--broker-url", redis_url)
    assert process.wait(60) == 78
    assert len(process.errors) == 1
    assert "CREATEDB" in process.errors[0]


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["rabbitmq", "valkey"])
def test_everything_goes_wrong_on_servers_of_its_own(
    broker: str, processes: Processes, figures: Figures
) -> None:
    process = processes.outbox("torture", "--minutes", "2", "--broker", broker, "--json")
    check(report(process, figures, 390))


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_what_a_flushed_broker_lost_comes_back_from_the_table(processes: Processes, figures: Figures) -> None:
    flushed = ("--minutes", "0.5", "--broker", "valkey", "--faults", "flush-broker", "--json")
    told = report(processes.outbox("torture", *flushed), figures)
    check(told)
    assert told["sent_again"] > 0
