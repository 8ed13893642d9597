"""A fresh database for each test, copied from a template that is migrated once a run."""

from __future__ import annotations

import itertools
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import Engine, NullPool, create_engine, make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import AnyServer


class Database:
    """One database of a server.

    Args:
        server_url: ``postgresql://…`` of any database of that server.
        name: of this one.
    """

    def __init__(self, server_url: str, name: str) -> None:
        self.name = name
        self._address = make_url(server_url).set(database=name)
        self.engine: Engine = create_engine(self.url_for("psycopg"), poolclass=NullPool)
        """Without a pool: nothing is held open behind a test's back."""

    @property
    def url(self) -> str:
        """``postgresql+psycopg://…``, for SQLAlchemy."""
        return self.url_for("psycopg")

    @property
    def dsn(self) -> str:
        """``postgresql://…``, for psycopg and psql."""
        return self._address.set(drivername="postgresql").render_as_string(hide_password=False)

    def url_for(self, driver: str) -> str:
        """``postgresql+driver://…``."""
        return self._address.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection in autocommit; the caller closes it.

        Args:
            options: keyword arguments of ``psycopg.connect``.
        """
        return psycopg.connect(self.dsn, **{"autocommit": True, **options})

    def execute(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own.

        Args:
            query: with ``%s`` for each value.
            values: what to fill in.

        Returns:
            Its rows; none if it gives no rows.
        """
        with self.connect() as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: LiteralString, *values: object) -> Any:
        """Return the first column of the first row."""
        return self.execute(query, *values)[0][0]


class Databases:
    """Makes databases on one server and drops them.

    Args:
        server: on which.
    """

    def __init__(self, server: AnyServer) -> None:
        self._server = server
        self._names = (f"test_{secrets.token_hex(3)}_{number}" for number in itertools.count())
        self._template: str | None = None
        self._session: psycopg.Connection | None = None

    @contextmanager
    def empty(self) -> Iterator[Database]:
        """A database with nothing in it."""
        with self._made(sql.SQL("CREATE DATABASE {}")) as database:
            yield database

    @contextmanager
    def encoded(self, encoding: str) -> Iterator[Database]:
        """A database with nothing in it and another encoding."""
        query = sql.SQL("CREATE DATABASE {} TEMPLATE template0 LOCALE 'C' ENCODING {}")
        with self._made(query, sql.Identifier(encoding)) as database:
            yield database

    def kept(self) -> Database:
        """A database with our schema that is never dropped."""
        return Database(self._server.url, self._migrate())

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        """A database with our schema in its newest form."""
        if self._template is None:
            self._template = self._migrate()
        # wal_log copies only what the template holds; file_copy would checkpoint twice, 100 ms instead of 30.
        query = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log")
        with self._made(query, sql.Identifier(self._template)) as database:
            yield database

    def close(self) -> None:
        """Drop the template, and let go of the server."""
        if self._template is not None:
            self._drop(self._template)
        if self._session is not None:
            self._session.close()

    def _migrate(self) -> str:
        from relay import migrations  # noqa: PLC0415 - alembic takes 0.2 s, and most tests need no database

        name = next(self._names)
        self._admin(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrations.upgrade(Database(self._server.url, name).url)
        return name

    @contextmanager
    def _made(self, query: sql.SQL, *values: sql.Identifier) -> Iterator[Database]:
        name = next(self._names)
        self._admin(query.format(sql.Identifier(name), *values))
        database = Database(self._server.url, name)
        try:
            yield database
        finally:
            database.engine.dispose()
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _admin(self, query: sql.Composed) -> None:
        # One session for all of them: to log in costs as much as to make a database.
        if self._session is None or self._session.closed:
            self._session = psycopg.connect(self._server.url, autocommit=True)
        self._session.execute(query)
