"""What we ask of a session, and which we refuse: in AUTOCOMMIT, of another database, with no engine for us.

A job in such a session would not share the fate of the rows it belongs to, and nobody would notice before a
crash.
Nothing here opens a connection of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import event
from sqlalchemy.exc import UnboundExecutionError

from outbox.errors import Misuse
from outbox.models import JobRow

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Mapper, Session, scoped_session


class Adds(Protocol):
    """Any session: ``Session``, ``scoped_session``, ``AsyncSession``, SQLModel's, Flask-SQLAlchemy's."""

    def add(self, instance: object, /) -> None:
        """Take an object to be inserted at the next flush."""


def refuse_unbound(session: Adds) -> None:
    """Refuse a session that has engines for some classes, and none for ours, at the line that used it.

    Raises:
        Misuse: ``session.get_bind`` finds no engine for ``JobRow``.
    """
    if getattr(session, "bind", None) is None:  # with one engine for everything there is nothing to search
        _search(session)


def _search(session: Any) -> None:
    try:
        session.get_bind(JobRow.__mapper__)
    except UnboundExecutionError:
        raise Misuse(
            "this session has no engine for outbox.models.JobRow: add it to binds, with the engine of the "
            "rows that the job belongs to"
        ) from None


def refuse_unsafe(connection: Connection) -> None:
    """Refuse a connection on which a job would not commit, or roll back, with what it belongs to.

    Raises:
        Misuse: It is in AUTOCOMMIT, whoever set it, or it is not PostgreSQL.
    """
    if connection.dialect.name != "postgresql":
        raise Misuse(
            f"the outbox lives in PostgreSQL, this session is bound to {connection.dialect.name}: a job is "
            "added in the transaction of the rows it belongs to"
        )
    # The driver's own word: the engine, the execution options and the user's code all end there.
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise Misuse(
            "this session is in AUTOCOMMIT: a job would be published although what follows it fails; use a "
            "transaction"
        )


def checked(session: Session | scoped_session[Any]) -> Connection:
    """Return the connection on which this session writes jobs; begins its transaction if need be.

    Raises:
        Misuse: See ``refuse_unbound`` and ``refuse_unsafe``.
    """
    refuse_unbound(session)
    connection = session.connection(bind_arguments={"mapper": JobRow.__mapper__})
    refuse_unsafe(connection)
    return connection


@event.listens_for(JobRow, "before_insert")
def _before_insert(_mapper: Mapper[JobRow], connection: Connection, _row: JobRow) -> None:
    refuse_unsafe(connection)
