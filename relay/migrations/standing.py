"""Knows where a database stands: its revision, what a killed migration left, who uses our tables.

Reads and tidies; the revisions themselves are run elsewhere (``relay/migrations``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from outbox import schema
from outbox.database import SCHEMA, VERSION_TABLE
from outbox.errors import WrongEnvironment
from relay import sessions

if TYPE_CHECKING:
    from relay.sessions import Session

_REVISION: Final = re.compile("[0-9]{4}")

# Asked, not inferred from an error: a network that fails is no proof that a table is missing. The third is a
# table or view called like one of revision 0001: where it is and our version is not, somebody else made it.
# Asked of the catalogue's rows alone: to_regclass answers from a cache, which may not know yet what the same
# statement's snapshot shows, and the tables of a migration that has just ended would be called a stranger's.
_HAS: Final = """
SELECT coalesce(bool_or(c.relname = %s), false), coalesce(bool_or(c.relname = 'meta'), false),
       min(c.relname::text) FILTER (WHERE c.relname IN ('job', 'jobs', 'leader', 'taker', 'transition'))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s
"""
_VERSION: Final = f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}"  # noqa: S608 - constants of ours

# CREATE SCHEMA IF NOT EXISTS asks for CREATE on the database even when there is nothing to create.
MAKE_ROOM: Final = (
    f"DO $$ BEGIN IF to_regnamespace('{SCHEMA}') IS NULL THEN CREATE SCHEMA {SCHEMA}; END IF; END $$"
)

# An index that was being built when its migration was killed. One that somebody builds now has its table
# locked.
_RUINS: Final = """
SELECT c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE NOT i.indisvalid AND c.relnamespace = to_regnamespace(%s)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.relation = i.indrelid AND l.granted
                   AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_backend_pid())
"""

_OBSTACLES: Final = """
SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
 WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relnamespace = to_regnamespace(%s)
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 ORDER BY 1 LIMIT 3
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a database stands.

    Args:
        revision: its revision; None: it has no schema of ours.
        own: whether our own version table says so. False: the tables are kept by somebody's own Alembic
            history.
    """

    revision: str | None
    own: bool = True

    @property
    def behind(self) -> bool:
        """Whether a revision is missing."""
        return self.revision is None or self.revision < schema.NEWEST

    @property
    def ahead(self) -> bool:
        """Whether a newer release has been here. What has not the form of a revision of ours is none."""
        form = self.revision is not None and _REVISION.fullmatch(self.revision)
        return bool(form) and str(self.revision) > schema.NEWEST

    def is_at(self, aim: str) -> bool:
        """Whether there is nothing to do in order to reach ``aim``; a newer schema is never taken back."""
        return self.revision == aim or (self.ahead and aim == schema.NEWEST)

    def told(self, before: Standing) -> str:
        """Return the line that ends a migration which began at ``before``."""
        if self.ahead:
            return f"database is ahead ({self.revision}), nothing to do"
        if self == before:
            return f"database is at {self.revision}, nothing to do"
        return f"database is at {self.revision}"


def standing(session: Session) -> Standing:
    """Read where the database stands.

    Raises:
        WrongEnvironment: the revision is none of ours, or the tables are behind and kept by another history.
    """
    versioned, has_meta, foreign = session.execute(_HAS, (VERSION_TABLE, SCHEMA)).fetchone() or (
        False,
        False,
        None,
    )
    rows = session.execute(_VERSION).fetchall() if versioned else []
    if len(rows) > 1:
        raise WrongEnvironment(
            f"{SCHEMA}.{VERSION_TABLE} has {len(rows)} rows; this history is a single line"
        )
    if rows:
        return _sane(Standing(rows[0][0]))
    if has_meta:
        return _kept_elsewhere(session.execute(schema.READ_META).fetchone())
    if foreign:
        raise WrongEnvironment(
            f"the schema {SCHEMA} holds a table {foreign} that is not ours: move it to another schema, "
            "or give outbox another database"
        )
    return Standing(None)


def _sane(found: Standing) -> Standing:
    known = {revision for revision, _ in schema.revisions()}
    if found.ahead or found.revision in known:
        return found
    raise WrongEnvironment(f"{SCHEMA}.{VERSION_TABLE} has {found.revision!r}, which is no revision of ours")


def _kept_elsewhere(row: tuple[str, str] | None) -> Standing:
    found = Standing(row[0] if row else None, own=False)
    if found.behind:
        raise WrongEnvironment(
            f"the schema is at {found.revision} and kept by your own Alembic history: add a revision that "
            f'calls outbox.schema.upgrade(op, to="{schema.NEWEST}")',
        )
    return found


def make_room(session: Session) -> None:
    """Create the schema, unless an administrator has: the version table lives in it from the start."""
    session.execute(MAKE_ROOM)


def clear_ruins(session: Session) -> None:
    """Drop indexes that a killed migration left half built, so that their revision can run again."""
    for (name,) in session.execute(_RUINS, (SCHEMA,)).fetchall():
        drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(SCHEMA, name))
        session.execute(drop)


def obstacles(session: Session) -> str:
    """Return who holds locks on our tables just now, in words; a revision waits for them."""
    pids = [pid for (pid,) in session.execute(_OBSTACLES, (SCHEMA,)).fetchall()]
    return "; ".join(sessions.described(session, pid) for pid in pids) or "somebody who has just ended"
