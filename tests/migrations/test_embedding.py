"""Our tables in somebody's own Alembic history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from releases import ALEMBIC

from outbox.errors import WrongEnvironment
from relay import migrations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from databases import Database
    from processes import Process, Processes
    from releases import Release

    Migrate = Callable[..., Process]

ENV = """
from alembic import context
from sqlalchemy import MetaData, NullPool, create_engine

import outbox.schema

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()
else:
    url = context.config.get_main_option("sqlalchemy.url")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=MetaData(),
            include_schemas=True,
            include_name=outbox.schema.include_name,
        )
        with context.begin_transaction():
            context.run_migrations()
"""

REVISION = """
from alembic import op

import outbox.schema

revision = "{revision}"
down_revision = {before}


def upgrade():
    outbox.schema.upgrade(op, to="{to}")


def downgrade():
    outbox.schema.downgrade(op, to={left})
"""


@pytest.fixture
def shop(tmp_path: Path, empty_database: Database) -> Config:
    """Return the Alembic configuration of an application whose first revision takes our tables in."""
    folder = tmp_path / "shop"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text("")
    first = REVISION.format(revision="aaaa", before=None, to="0002", left=None)
    (folder / "versions" / "aaaa.py").write_text(first)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("sqlalchemy.url", empty_database.url)
    return config


def tables(database: Database) -> set[str]:
    """Return the tables in our schema."""
    return {
        name for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'outbox'")
    }


def test_up_and_down_in_a_history_of_somebody_else(shop: Config, empty_database: Database) -> None:
    command.upgrade(shop, "head")
    assert tables(empty_database) == {"job", "transition", "leader", "taker", "slot", "meta"}
    assert empty_database.value("SELECT version_num FROM public.alembic_version") == "aaaa"
    command.downgrade(shop, "base")
    assert tables(empty_database) == set()


def test_their_autogenerate_leaves_our_tables_alone(shop: Config) -> None:
    command.upgrade(shop, "head")
    command.check(shop)


def test_our_command_leaves_their_history_alone(
    shop: Config, empty_database: Database, processes: Processes
) -> None:
    command.upgrade(shop, "head")
    process = processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": empty_database.dsn})
    assert process.wait() == 0, process.story()
    assert process.output == "database is at 0002, nothing to do\n"
    assert "alembic_version" not in tables(empty_database)


def test_our_command_says_which_line_a_history_lacks(
    shop: Config, empty_database: Database, migrate: Migrate
) -> None:
    command.upgrade(shop, "head")
    process = migrate(env={"OUTBOX_DATABASE_URL": empty_database.dsn})
    assert process.wait() == 78, process.story()
    assert process.errors[0].endswith('add a revision that calls outbox.schema.upgrade(op, to="0004")')


def test_a_second_revision_of_theirs_brings_what_the_first_had_not(
    shop: Config, empty_database: Database, release: Release, processes: Processes, tmp_path: Path
) -> None:
    command.upgrade(shop, "head")
    second = REVISION.format(revision="bbbb", before="'aaaa'", to="0003", left="'0002'")
    (tmp_path / "shop" / "versions" / "bbbb.py").write_text(second)
    ini = tmp_path / "shop.ini"
    ini.write_text(
        f"[alembic]\nscript_location = {tmp_path / 'shop'}\npath_separator = newline\n"
        f"sqlalchemy.url = {empty_database.url}\n"
    )
    for direction, columns in (("upgrade", 1), ("downgrade", 0)):
        target = "head" if direction == "upgrade" else "-1"
        process = processes.start(ALEMBIC, "-c", ini, direction, target, env=release.env)
        assert process.wait(30) == 0, process.story()
        found = empty_database.value(
            "SELECT count(*) FROM pg_attribute WHERE attname = 'shade' "
            "AND attrelid = 'outbox.job'::regclass AND NOT attisdropped"
        )
        assert found == columns


def test_their_sql_can_be_printed(
    shop: Config, empty_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    command.upgrade(shop, "head", sql=True)
    with empty_database.connect() as connection:
        connection.execute(capsys.readouterr().out.encode())
    assert "job" in tables(empty_database)


def test_a_history_that_is_behind_is_not_migrated_over_its_head(
    shop: Config, empty_database: Database
) -> None:
    command.upgrade(shop, "head")
    empty_database.execute("UPDATE outbox.meta SET revision = '0000'")
    with pytest.raises(WrongEnvironment, match="kept by your own Alembic history"):
        migrations.upgrade(empty_database.dsn)
