"""A release after this one, made for a test: our source with more revisions. Its revisions stop at gates.

A gate is a table; while it exists, a revision that comes to it waits inside a statement.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from databases import Database

ROOT = Path(__file__).parent.parent
ALEMBIC = Path(sys.executable).with_name("alembic")
"""The command of that name; ``python -m`` finds it under another."""

_REVISION = '''"""{told}"""

from alembic import op

revision = "{revision}"
down_revision = "{before}"


def gate(name):
    op.execute(
        f"DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_class WHERE relname = '{{name}}') "
        "LOOP PERFORM pg_sleep(0.02); END LOOP; END $$"
    )


def upgrade():
{body}
    op.execute("UPDATE outbox.meta SET revision = '{revision}'")


def downgrade():
{undo}
    op.execute("UPDATE outbox.meta SET revision = '{before}'")
'''

COLUMN = _REVISION.format(
    told="A column, and then the gate, in one transaction.",
    revision="0003",
    before="0002",
    body='    op.execute("ALTER TABLE outbox.job ADD COLUMN shade text")\n    gate("in_ddl")',
    undo='    op.execute("ALTER TABLE outbox.job DROP COLUMN shade")',
)
INDEX = _REVISION.format(
    told="The gate, and then an index that is built beside the writers.",
    revision="0004",
    before="0003",
    body="""    gate("between")
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS job_shade ON outbox.job (shade)")""",
    undo='    op.execute("DROP INDEX outbox.job_shade")',
)


class Release:
    """The release after this one: revisions 0003 and 0004.

    Args:
        folder: where it is put; also what ``PYTHONPATH`` must be.
    """

    newest = "0004"

    def __init__(self, folder: Path) -> None:
        for name in ("outbox", "relay", "alembic"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "alembic.ini", folder)
        (folder / "alembic" / "versions" / "0003_column.py").write_text(COLUMN)
        (folder / "alembic" / "versions" / "0004_index.py").write_text(INDEX)
        schema = folder / "outbox" / "schema.py"
        schema.write_text(re.sub(r'(NEWEST: Final = )"\d+"', rf'\1"{self.newest}"', schema.read_text()))
        self.folder = folder

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in order to run this release."""
        return {"PYTHONPATH": str(self.folder)}


def close_gate(database: Database, name: str) -> None:
    """Let a revision wait at a gate from now on."""
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE public.{name} ()")


def open_gate(database: Database, name: str) -> None:
    """Let it go on."""
    with database.connect() as connection:
        connection.execute(f"DROP TABLE public.{name}")


def revision(database: Database) -> str:
    """Return the revision that a database has."""
    return str(database.value("SELECT version_num FROM outbox.alembic_version"))


def migrators(database: Database, query: str = "%") -> list[int]:
    """Return the backends of migrations whose running statement is like ``query``."""
    rows = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'outbox-migrate:%%' "
        "AND datname = current_database() AND query LIKE %s",
        query,
    )
    return [pid for (pid,) in rows]


def locks(database: Database) -> int:
    """Return how many advisory locks are held in a database."""
    return int(
        database.value(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


def ruins(database: Database) -> int:
    """Return how many indexes are half built."""
    return int(database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid"))
