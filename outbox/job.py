"""The job as handlers and callers see it: a frozen value, made of a row or of a message.

A row would be expired by the commit that follows, and would answer with an error where no connection is left.
Nothing here touches a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outbox.payload import decode
from outbox.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from outbox.models import JobRow


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as it was when it was read.

    Args:
        id: The same in the table, on the wire and in the logs.
        kind: What the work is, such as ``"order.paid"``.
        key: The ordering key, if it has one.
        payload: Decoded; an object of the handler's ``model`` where it has one; bytes where it is not JSON.
        headers: The application's own.
        state: Where it stood.
        version: One more with each transition.
        attempt: How often it has been tried; a handler's own try is counted.
        max_attempts: After so many failures it is dead.
        created_at: By the database's clock.
        error: What the last failure was, in one line.
    """

    id: UUID
    kind: str
    key: str | None
    payload: Any
    headers: Mapping[str, str]
    state: State
    version: int
    attempt: int
    max_attempts: int
    created_at: datetime
    error: str | None = None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt: who charges cards or sends mail for you takes it, and does it once."""
        return str(self.id)


def job_of(row: JobRow) -> Job:
    """Return the value of a row. A payload that cannot be decoded is given as the bytes that it is."""
    try:
        payload = decode(row.payload, row.content_type)
    except ValueError:
        payload = row.payload
    return Job(
        id=row.id,
        kind=row.kind,
        key=row.key,
        payload=payload,
        headers=row.headers,
        state=State(row.state),
        version=row.version,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        error=row.error,
    )
