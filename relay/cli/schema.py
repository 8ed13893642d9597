"""What ``outbox migrate`` does with its options. How a schema is migrated is in ``relay/migrations``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from outbox import grants as rights
from relay import migrations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relay.config import Settings

KINDS: Final = ("app", "relay", "consumer")


def grants(roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the statements that give each role the rights of its kind."""
    return [line for kind in KINDS for role in roles[kind] for line in rights.statements(role, kind)]


def run(settings: Settings, wait: float, statements: Sequence[str]) -> None:
    """Migrate, and tell on standard output what was done. Raises as ``migrations.upgrade``."""
    migrations.upgrade(settings.dsn, wait=wait, say=click.echo, grants=statements)


def check(settings: Settings) -> int:
    """Tell where the database stands; return 1 when a revision is missing, else 0.

    Raises as ``migrations.look``.
    """
    found = migrations.look(settings.dsn)
    if found.behind:
        click.echo(
            f"database is at {found.revision or 'no revision'}, not at {migrations.NEWEST}: outbox migrate"
        )
        return 1
    click.echo(found.told(found))
    return 0


def script(settings: Settings, statements: Sequence[str]) -> str:
    """Return the SQL that the database lacks, or all of it when none is named, and the grants."""
    since = migrations.look(settings.dsn).revision if settings.database_url else None
    missing = "" if since and since >= migrations.NEWEST else migrations.script(since)
    lines = [f"{statement};" for statement in statements]
    return "\n".join(filter(None, [missing, *lines])) or f"-- the schema is at {since}: nothing is missing"
