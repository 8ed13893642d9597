"""Which faults there are, and which of them may be inflicted where."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest

from outbox.errors import WrongEnvironment
from relay.cli.torture import torture
from relay.torture import director, links
from relay.torture.faults import BROKER, FAULTS, POSTGRES, RABBITMQ, VALKEY, possible
from relay.torture.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database

    from relay.sandbox import Postgres

DATABASE, AMQP = "postgresql://u:p@127.0.0.1:5432/d", "amqp://u:p@127.0.0.1:5672//"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def stage(stack: ExitStack, database_url: str = DATABASE, broker_url: str = AMQP) -> Stage:
    return Stage(None, links.Links(stack, database_url, broker_url), database_url, broker_url, None, None)  # type: ignore[arg-type]


def test_servers_of_others_are_not_hurt(stack: ExitStack) -> None:
    harmless = possible(stage(stack))
    assert {"kill-leader", "end-session", "cut-relay-database", "stall-consumer-broker"} <= harmless.keys()
    assert not {fault.needs for fault in harmless.values()} & {POSTGRES, BROKER, RABBITMQ, VALKEY}


@pytest.mark.parametrize("name", ["lock-rows", "hold-snapshot"])
def test_a_fault_may_end_after_the_server_that_it_was_about(
    name: str, own_postgres: Postgres, own_database: Database, stack: ExitStack
) -> None:
    """Two faults come at once, and the other one may be that PostgreSQL is killed."""
    there = stage(stack, database_url=own_database.dsn)
    with FAULTS[name].act(there, Random(1)) as told:
        own_postgres.restart("immediate")
    assert told
    with FAULTS[name].act(there, Random(1)) as told:
        assert told


def test_a_full_disk_of_its_own_is_no_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(director, "run", full)
    with pytest.raises(
        WrongEnvironment, match=r"No space left on device; it keeps its journals in /.* \(TMPDIR\)"
    ):
        torture.main(["--minutes", "1"], standalone_mode=False)


def test_every_fault_says_what_it_does() -> None:
    assert len(FAULTS) > 25
    assert all(fault.told and fault.lasts[0] <= fault.lasts[1] for fault in FAULTS.values())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/d?host=/run/postgresql",
        "postgresql://h1:5432,h2:5432/d",
        "postgresql://h/d?sslmode=verify-full",
        "amqps://h/",
        "rediss://h/0",
        "amqp://a;amqp://b",
    ],
)
def test_no_proxy_stands_where_it_would_be_noticed(url: str) -> None:
    assert not links.passable(url)


def test_without_a_proxy_the_address_is_the_servers_own(stack: ExitStack) -> None:
    there = stage(stack, broker_url="amqps://u:p@broker/")
    assert there.links.url("relay-broker") == "amqps://u:p@broker/"
    assert there.links.url("relay-database").startswith("postgresql://u:p@127.0.0.1:")
    assert "cut-relay-broker" not in possible(there)
    assert "cut-relay-database" in possible(there)
