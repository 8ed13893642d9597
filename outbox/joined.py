"""Joins the application's sessions to transactions of ours: a handler's writes commit with its job.

A handler's ``commit()`` writes and does not commit; a handler that rolls back is told what it did. Sessions
that are awaited work the same: everything here runs inside SQLAlchemy's own bridge from blocking code to the
event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

from sqlalchemy import Connection, Engine, event, func, select, true
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, SessionTransaction

from outbox.errors import Misuse
from outbox.models import JobRow
from outbox.sessions import refuse_unsafe

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

S = TypeVar("S", bound="Session | AsyncSession")

READ_COMMITTED: Final = "READ COMMITTED"
"""Under any other level a mark of the relay's after our snapshot would fail the completion (40001)."""


MARK: Final = "outbox.claim"
"""A setting of the transaction that the work is to commit with: gone with it, whoever ended it."""


class RolledBack(Exception):
    """The handler ended the transaction that its job was to commit with."""

    def __init__(self) -> None:
        super().__init__(
            "the handler rolled back the job's transaction, and with it all that it had written; for what "
            "may fail use session.begin_nested(), a savepoint"
        )


class Ended(Exception):
    """The same by SQL of its own, unseen by SQLAlchemy."""

    def __init__(self) -> None:
        super().__init__(
            "the handler ended the job's transaction with SQL of its own (COMMIT, ROLLBACK): leave that to "
            "us, and for what may fail use session.begin_nested(), a savepoint"
        )


def marked(connection: Connection, mark: str) -> None:
    """Mark the transaction.

    Args:
        connection: In it.
        mark: For ``refuse_ended``.
    """
    connection.execute(select(func.set_config(MARK, mark, true())))


def refuse_ended(connection: Connection, mark: str) -> None:
    """Refuse to go on in another transaction than the one that was marked.

    Raises:
        Ended: It is over.
    """
    if connection.execute(select(func.current_setting(MARK, true()))).scalar() != mark:
        raise Ended


class Work(Generic[S]):
    """One transaction of ours, with one session of the application's in it. Rolls back unless committed."""

    def __init__(self, connection: Connection, session: S | None) -> None:
        self.connection = connection
        self._transaction = connection.begin()
        self._session = session
        self._rolled_back = False

    @property
    def session(self) -> S:
        """The application's session."""
        return cast("S", self._session)

    def watch(self) -> None:
        """Let nothing be written after a rollback: it would begin a transaction that commits on its own."""
        session = plain(self.session)
        event.listen(session, "after_soft_rollback", self._note_rollback)
        event.listen(session, "after_begin", self._refuse_second)

    def flush(self) -> None:
        """Send what the session holds.

        Raises:
            RolledBack: There is no transaction any more that it could commit with.
        """
        self._refuse_ended()
        plain(self.session).flush()
        self._refuse_ended()

    def commit(self) -> None:
        """Commit what the handler wrote and what we did."""
        self._transaction.commit()

    def close(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        try:
            if self._session is not None:
                plain(self._session).close()
        finally:
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_rollback(self, _: Session, ended: SessionTransaction) -> None:
        # The root's: a savepoint may fail. Seen here even if the session had not spoken to the database yet.
        if ended.parent is None:
            self._rolled_back = True

    def _refuse_second(self, *_: object) -> None:
        self._refuse_ended()

    def _refuse_ended(self) -> None:
        if self._rolled_back or not self._transaction.is_active:
            raise RolledBack


class Sessions(Generic[S]):
    """The application's factory of sessions, seen from our side.

    Args:
        factory: ``sessionmaker`` or ``async_sessionmaker``.
    """

    def __init__(self, factory: Callable[..., S]) -> None:
        self._factory = factory
        self._engine: Engine | None = None
        self._options: dict[str, str] = {}

    def begin(self) -> Work[S]:
        """Begin a transaction of ours alone."""
        return Work(self._connect(), None)

    def begin_with_session(self) -> Work[S]:
        """Begin a transaction with one of the application's sessions in it.

        Raises:
            Misuse: Its sessions cannot be bound to a connection.
        """
        connection = self._connect()
        try:
            work = Work(connection, self._joined(connection))
            work.watch()
        except BaseException:
            connection.close()
            raise
        return work

    def _connect(self) -> Connection:
        if self._engine is None:
            self._engine = self._look_for_engine()
        connection = self._engine.connect()
        return connection.execution_options(**self._options) if self._options else connection

    def _look_for_engine(self) -> Engine:
        try:
            bind = plain(self._factory()).get_bind(JobRow.__mapper__)
        except UnboundExecutionError:
            raise Misuse("the sessionmaker of Handlers has no engine: give it one (bind=)") from None
        if not isinstance(bind, Engine):
            raise Misuse("Handlers needs a sessionmaker that is bound to an engine, not to one connection")
        with bind.connect() as connection:
            refuse_unsafe(connection.execution_options(isolation_level=READ_COMMITTED))
        with bind.connect() as connection:
            at_once = getattr(connection.connection.dbapi_connection, "autocommit", False)
            if at_once or connection.get_isolation_level() != READ_COMMITTED:
                self._options = {"isolation_level": READ_COMMITTED}
        return bind

    def _joined(self, connection: Connection) -> S:
        bound = self._bindable(connection)
        options: dict[str, Any] = {"bind": bound, "join_transaction_mode": "rollback_only"}
        given = getattr(self._factory, "kw", {})
        if given.get("twophase"):
            options["twophase"] = False
        if given.get("binds"):
            options["binds"] = {
                what: bound if getattr(bind, "sync_engine", bind) is self._engine else bind
                for what, bind in given["binds"].items()
            }
        session = self._factory(**options)
        if plain(session).get_bind(JobRow.__mapper__) is not connection:
            raise Misuse(
                "the sessions of Handlers choose their engine themselves (get_bind): give plain ones"
            )
        return session

    def _bindable(self, connection: Connection) -> Connection | AsyncConnection:
        if not connection.dialect.is_async:
            return connection
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine  # noqa: PLC0415 - needs greenlet

        return AsyncConnection(AsyncEngine(connection.engine), connection)


def plain(session: Session | AsyncSession) -> Session:
    """Return the session that does the work: the one inside, where it is awaited."""
    return session if isinstance(session, Session) else session.sync_session
