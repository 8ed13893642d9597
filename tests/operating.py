"""Jobs in any state, and what the operators' commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from click.testing import Result
    from databases import Database

TO = """
UPDATE outbox.job SET state = %s, version = version + 1, error = coalesce(%s, error),
       lease_until = CASE WHEN %s = 'running' THEN clock_timestamp() + interval '1 hour' END
 WHERE id = %s
"""


class Jobs:
    """Puts jobs into a database in any state.

    Args:
        database: where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, state: str = "pending", kind: str = "mail", error: str | None = None, **columns: Any
    ) -> UUID:
        """Add a job and bring it to a state by the transitions that lead there."""
        names = ", ".join(f"{name} => %s" for name in columns)
        query = f"SELECT outbox.add(%s, %s{', ' if names else ''}{names})"
        job_id: UUID = self._database.value(query, kind, '{"n": 1}', *columns.values())  # type: ignore[arg-type]
        if state == "published":
            self._database.execute(
                "UPDATE outbox.job SET state = 'published', published_at = clock_timestamp() WHERE id = %s",
                job_id,
            )
        elif state != "pending":
            self._database.execute(TO, state, error, state, job_id)
        return job_id

    def state(self, job_id: UUID) -> str:
        """Return a job's state."""
        return str(self._database.value("SELECT state FROM outbox.job WHERE id = %s", job_id))

    def row(self, job_id: UUID, columns: str) -> tuple[Any, ...]:
        """Return some columns of a job."""
        return self._database.execute(f"SELECT {columns} FROM outbox.job WHERE id = %s", job_id)[0]  # type: ignore[arg-type]

    def age(self, seconds: float, column: str) -> None:
        """Make all jobs older."""
        with self._database.connect() as connection:
            connection.execute("ALTER TABLE outbox.job DISABLE TRIGGER USER")
            connection.execute(f"UPDATE outbox.job SET {column} = {column} - {seconds} * interval '1 second'")
            connection.execute("ALTER TABLE outbox.job ENABLE TRIGGER USER")


def read(result: Result) -> Any:
    """Return what a command printed as JSON."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.output)
