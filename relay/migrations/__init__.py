"""Brings the schema to the newest revision, from any number of processes at once.

``outbox migrate`` comes here; ``alembic upgrade head`` does the same through ``revisions.py``. The
connection that runs the DDL holds the lock: a process that dies takes both with it, and nothing is left to
clean up. A database at its newest revision is left alone without a look at the lock. What the revisions do is
in ``alembic/``, what a release can work on in ``outbox/schema.py``, and the waiting in ``turn.py``.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from alembic import command
from alembic.config import Config

from outbox import schema
from outbox.errors import Busy
from relay import sessions
from relay.migrations import turn
from relay.migrations.standing import Standing, standing
from relay.seam import database_errors
from relay.sessions import check_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relay.migrations.turn import Turn

__all__ = ["NEWEST", "Standing", "check_schema", "look", "script", "upgrade"]

NEWEST: Final = schema.NEWEST

_one_at_a_time = threading.Lock()  # Alembic keeps its context in the process


def quiet(line: str) -> None:
    """Say nothing."""
    del line


def upgrade(
    url: str,
    *,
    wait: float = turn.WAIT,
    say: Callable[[str], None] = quiet,
    grants: Sequence[str] = (),
) -> None:
    """Bring a database to the newest revision.

    Args:
        url: any PostgreSQL address, direct and of the primary.
        wait: how long others are waited for, in seconds.
        say: told a line for each revision applied, and how it ended.
        grants: statements to run afterwards under the same lock (two GRANTs on one table at once fail).

    Raises:
        ConfigError: the address cannot be read.
        Unreachable: the database does not answer, or does not let us in.
        Busy: somebody else migrates, or uses our tables, for longer than ``wait``.
        WrongEnvironment: a pooler, a replica, too few rights, a schema that is not ours.
    """
    with turn.begun(url, wait, say) as ours:
        before = standing(ours.session)
        if before.behind or grants:
            _take(ours, grants)
        say(standing(ours.session).told(before))


def _take(turn: Turn, grants: Sequence[str]) -> None:
    with turn.taken(needless=lambda: not grants and not standing(turn.session).behind) as taken:
        if taken and standing(turn.session).behind:
            _run_alembic(turn)
        for statement in grants if taken else ():
            turn.session.execute(statement)


def _run_alembic(turn: Turn) -> None:
    if not _one_at_a_time.acquire(timeout=turn.left):
        raise Busy(f"another thread of this process migrates; gave up after {turn.wait:g} s")
    try:
        command.upgrade(_configuration(turn=turn), "head")
    finally:
        _one_at_a_time.release()


def look(url: str) -> Standing:
    """Return where a database stands. Changes nothing, and takes no lock.

    Raises:
        ConfigError: the address cannot be read.
        Unreachable: the database does not answer, or does not let us in.
        WrongEnvironment: too few rights to see, or a schema that is not ours.
    """
    with database_errors(), sessions.opened(url, turn.ROLE) as session:
        return standing(session)


def script(since: str | None = None) -> str:
    """Return the SQL of the revisions after ``since`` (None: all), for those who run it by hand."""
    out = io.StringIO()
    with _one_at_a_time:
        command.upgrade(_configuration(out), f"{since}:head" if since else "head", sql=True)
    return out.getvalue()


def _configuration(out: io.StringIO | None = None, **attributes: Any) -> Config:
    config = Config(output_buffer=out or sys.stdout, attributes=attributes)
    config.set_main_option("script_location", str(schema.folder()).replace("%", "%%"))
    return config
