"""Servers in containers serve the tests as private ones do, where a container engine answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import containers
import kombu
import pytest
from brokers import VirtualHosts
from databases import Databases

if TYPE_CHECKING:
    from servers import Servers


@pytest.mark.long
def test_postgres_gives_fresh_databases(servers: Servers) -> None:
    for server in servers.first("postgres container", "auto", [("container", containers.postgres)]):
        with closing(Databases(server)) as databases, databases.migrated() as database:
            assert database.value("SELECT count(*) FROM outbox.job") == 0


@pytest.mark.long
def test_rabbitmq_gives_fresh_virtual_hosts(servers: Servers) -> None:
    for server in servers.first("rabbitmq container", "auto", [("container", containers.rabbitmq)]):
        with kombu.Connection(VirtualHosts(server).next_url()) as connection:
            connection.connect()
            assert "test-" in server.ctl("list_vhosts")
