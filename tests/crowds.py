"""Sessions that take up every connection that a PostgreSQL has, and its log, which tells who knocked."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from databases import Database

    from relay.sandbox import Postgres

SPARE = 2
"""Connections left to superusers, for the test's own looks. Three are reserved: nobody else gets one."""


class Crowd:
    """Superusers' sessions that do nothing, as many as there is room for.

    Args:
        database: to which they connect.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: list[psycopg.Connection] = []

    def __enter__(self) -> Self:
        self.press()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def press(self) -> int:
        """Take every connection but ``SPARE``; return how many these sessions have."""
        try:
            while True:
                self._sessions.append(self._database.connect())
        except psycopg.OperationalError:
            for _ in range(SPARE):
                self._sessions.pop().close()
        return len(self._sessions)

    def leave(self) -> None:
        """Give all of them back."""
        while self._sessions:
            self._sessions.pop().close()


def narrow(server: Postgres, connections: int) -> None:
    """Restart a server with few connections, and with names in its log.

    Args:
        server: of the test's own.
        connections: how many, three of them for superusers.
    """
    _set(server, "max_connections", str(connections))
    name_in_log(server)
    server.restart()


def name_in_log(server: Postgres) -> None:
    """Let a server's log tell who knocks, for :func:`turned_away`."""
    _set(server, "log_line_prefix", "%m [%p] user=%u ")


def _set(server: Postgres, name: str, value: str) -> None:
    setting = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(setting)
        connection.execute("SELECT pg_reload_conf()")


def turned_away(server: Postgres) -> Counter[str]:
    """Count, by role, how often a server refused a connection, by its own log."""
    lines = (server.folder / "log").read_text(errors="replace")
    return Counter(re.findall(r"user=(\S+) FATAL: ", lines))
