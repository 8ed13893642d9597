"""The models say what the revisions create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from outbox import models

if TYPE_CHECKING:
    from databases import Database

COLUMNS = """
    SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
           a.attgenerated, pg_get_expr(d.adbin, d.adrelid), l.collname, a.attnum = ANY (i.indkey)
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
      AND c.relname <> 'alembic_version'
    ORDER BY 1, 2
"""


def columns(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(COLUMNS)


def test_every_column_has_the_same_place_type_default_and_nullability(
    database: Database, empty_database: Database
) -> None:
    with empty_database.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA outbox"))
        models.metadata.create_all(connection)
    assert columns(empty_database) == columns(database)


def test_the_xid_stands_before_the_position(database: Database) -> None:
    # Defaults run in column order, and the relay's low-water mark rests on this one.
    assert [name for _, _, name, *_ in columns(database) if name in {"xid", "pos"}] == ["xid", "pos"]


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_autogenerate_finds_nothing_to_do(database: Database) -> None:
    options = {
        "include_schemas": True,
        "compare_type": True,
        "compare_server_default": True,
        "version_table_schema": models.SCHEMA,
        # Indexes are partial and serve the relay: they are told in SQL alone.
        "include_object": lambda _object, _name, type_, _reflected, _to: type_ != "index",
    }
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, models.metadata) == []
