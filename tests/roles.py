"""Real roles with the rights that we tell people to grant.

Roles belong to the whole server: each test makes its own.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from outbox import grants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database

PASSWORD = "secret"


class Role:
    """A role that can log in.

    Args:
        database: where it has its rights.
        name: of the role.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.name = name
        self._database = database

    def url(self, driver: str) -> str:
        """``postgresql+driver://…`` as this role."""
        url = make_url(self._database.url_for(driver)).set(username=self.name, password=PASSWORD)
        return url.render_as_string(hide_password=False)

    def connect(self) -> psycopg.Connection:
        """Open a connection in autocommit as this role; the caller closes it."""
        return self._database.connect(user=self.name, password=PASSWORD)


@contextmanager
def role(database: Database, *kinds: grants.Kind, name: str = "test") -> Iterator[Role]:
    """Make a role with the rights of these kinds, and drop it.

    Args:
        database: where.
        kinds: none: a role that may only connect.
        name: what its name begins with.
    """
    made = Role(database, f"{name}_{secrets.token_hex(4)}")
    named = sql.Identifier(made.name)
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(named, PASSWORD))
        try:
            for kind in kinds:
                for statement in grants.statements(made.name, kind):
                    connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
            yield made
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(named))
            connection.execute(sql.SQL("DROP ROLE {}").format(named))
