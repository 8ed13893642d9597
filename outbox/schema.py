"""Knows the schema's revisions: where they are, which ones this release can work on, how to run them.

For people who keep our tables in their own Alembic history: ``upgrade`` and ``downgrade`` run our revisions
inside one of theirs, and ``include_name`` keeps their autogenerate away from our tables. Taking turns between
processes is not done here (``relay/migrations/``), and ``import outbox`` never gets here.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outbox.database import SCHEMA
from outbox.errors import Misuse, WrongEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from alembic.operations import Operations

NEWEST: Final = "0002"
"""The revision that this release was written for."""

OLDEST: Final = "0001"
"""The oldest revision that this release still works on."""

HAS_META: Final = f"SELECT to_regclass('{SCHEMA}.meta') IS NOT NULL"
READ_META: Final = f"SELECT revision, min_reader FROM {SCHEMA}.meta"  # noqa: S608 - a constant of ours


def folder() -> Path:
    """Return the folder of ``env.py`` and the revisions: in the wheel, or ``alembic/`` of the checkout."""
    package = Path(__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "alembic"


def include_name(name: str | None, type_: str, parent_names: Any = None) -> bool:
    """Keep autogenerate away from our tables: ``context.configure(include_name=outbox.schema.include_name)``.

    Without it, and with ``include_schemas=True``, ``alembic revision --autogenerate`` wants to drop them.

    Args:
        name: what Alembic found in the database.
        type_: what it is: schema, table, column …
        parent_names: unused; Alembic passes it.
    """
    del parent_names
    return not (type_ == "schema" and name == SCHEMA)


def check(read: Callable[[str], Sequence[Any] | None]) -> None:
    """Refuse a database that this release cannot work on.

    Args:
        read: runs one statement and returns its first row.

    Raises:
        WrongEnvironment: there is no schema, it is too old, or it is too new for this release.
    """
    has = read(HAS_META)
    row = read(READ_META) if has is not None and has[0] else None
    if row is None:
        raise WrongEnvironment("the database has no schema outbox: run outbox migrate")
    revision, min_reader = row
    if revision < OLDEST:
        raise WrongEnvironment(f"the schema is {revision} and {OLDEST} is needed: run outbox migrate")
    if min_reader > NEWEST:
        raise WrongEnvironment(
            f"the schema is {revision}, which needs a release that knows {min_reader}; this one knows "
            f"{NEWEST}: install a newer outbox-relay",
        )


def upgrade(op: Operations, to: str = NEWEST, *, since: str | None = None) -> None:
    """Bring our tables to revision ``to`` inside one of your own Alembic revisions.

    Revisions that the database already has are passed over.

    Args:
        op: ``alembic.op``.
        to: our revision, named, so that your history means the same for ever.
        since: the revision that an earlier call reached. Needed with ``--sql`` alone, where no database can
            be asked.

    Raises:
        Misuse: there is no revision ``to``.
    """
    _known(to)
    now = _applied(op) or since or ""
    for revision, module in revisions():
        if now < revision <= to:
            module.upgrade()


def downgrade(op: Operations, to: str | None = None) -> None:
    """Undo ``upgrade``, down to revision ``to``; None takes everything away, and every job with it.

    Args:
        op: ``alembic.op``.
        to: the revision that stays.

    Raises:
        Misuse: there is no revision ``to``.
    """
    if to is not None:
        _known(to)
    now = _applied(op) or NEWEST
    for revision, module in reversed(revisions()):
        if (to or "") < revision <= now:
            module.downgrade()


def _known(revision: str) -> None:
    names = [name for name, _ in revisions()]
    if revision not in names:
        raise Misuse(f"outbox has no revision {revision!r}; it has {', '.join(names)}")


def _applied(op: Operations) -> str | None:
    """Return the revision that the database has; None: none, or only SQL is being written."""
    if op.get_context().as_sql:
        return None
    from sqlalchemy import text  # noqa: PLC0415 - who only asks for a revision's name does without it

    bind = op.get_bind()
    if not bind.scalar(text(HAS_META)):
        return None
    found: str | None = bind.scalar(text(READ_META))
    return found


@cache
def revisions() -> tuple[tuple[str, ModuleType], ...]:
    """Return the revisions with their modules, oldest first; the folder must never become a package."""
    found = []
    for file in sorted((folder() / "versions").glob("[0-9]*.py")):
        spec = importlib.util.spec_from_file_location(f"_outbox_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise Misuse(f"{file.name} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append((str(module.revision), module))
    return tuple(found)
