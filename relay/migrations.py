"""Bring the schema to the newest revision, from any number of pods at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, pool, text

from outbox import models


def path() -> Path:
    """Return the folder of the revisions: inside the wheel, or the checkout's ``alembic/``."""
    here = Path(models.__file__).parent
    packaged = here / "migrations"
    return packaged if packaged.is_dir() else here.parent / "alembic"


def upgrade(url: str) -> None:
    """Bring the database at ``url`` to the newest revision."""
    config = Config()
    config.set_main_option("script_location", str(path()))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=pool.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def run(context: Any) -> None:
    """Run the revisions; called by ``alembic/env.py``."""
    connection = context.config.attributes["connection"]
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS outbox"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=models.metadata,
        version_table=models.VERSION_TABLE,
        version_table_schema=models.SCHEMA,
        transaction_per_migration=True,
        include_schemas=True,
    )
    with context.begin_transaction():
        context.run_migrations()
