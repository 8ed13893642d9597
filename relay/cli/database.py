"""Opens the session of a command that reads or changes jobs; it may go through a pooler."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from relay.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.sessions import Session


@contextmanager
def opened(flags: dict[str, Any]) -> Iterator[Session]:
    """Give a session on the database that the flags name; its schema is one that we can work on."""
    settings = options.load(flags, "database_url")
    from relay import seam, sessions  # noqa: PLC0415 - psycopg, which --help does not need

    with seam.database_errors(), sessions.opened(settings.dsn, "outbox-cli") as session:
        sessions.check_schema(session)
        yield session
