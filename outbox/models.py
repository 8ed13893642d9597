"""The tables of the schema ``outbox`` as SQLAlchemy sees them.

Alembic's revisions create them; a test holds the two together. ``JobRow`` is the row; handlers and callers
get the frozen ``Job`` instead: a row is expired by the commit that made it, and then answers with an error.
"""

# No annotations as text here: SQLAlchemy reads them when the class is made, and text costs a millisecond.
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    FetchedValue,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from outbox.database import SCHEMA

metadata = MetaData(schema=SCHEMA)
clock = text("clock_timestamp()")


class XID8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id. Only the server ever fills or compares it."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the type's name in DDL."""
        return "xid8"

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Leave what the driver gives."""
        del dialect, coltype


class Base(DeclarativeBase):
    """Our own base: the user's metadata, naming conventions and events stay out of it."""

    metadata = metadata
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012 - its spelling


class JobRow(Base):
    """A row of ``outbox.job``. Applications insert it through ``outbox.add``; nobody edits it by hand."""

    __tablename__ = "job"
    # No RETURNING: a role that may only INSERT can flush it, and a flush stays one round trip.
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012 - SQLAlchemy's own spelling

    xid: Mapped[str] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    pos: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str]
    key: Mapped[str | None] = mapped_column(Text(collation="C"))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    content_type: Mapped[str] = mapped_column(server_default="application/json")
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    exchange: Mapped[str | None]
    routing_key: Mapped[str | None]
    first_pos: Mapped[int | None] = mapped_column(BigInteger, server_default=FetchedValue())
    line: Mapped[int] = mapped_column(BigInteger, Computed("coalesce(first_pos, pos)", persisted=True))
    state: Mapped[str] = mapped_column(server_default="pending")
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    max_attempts: Mapped[int] = mapped_column(Integer, server_default="20")
    sends: Mapped[int] = mapped_column(Integer, server_default="1")
    unique_key: Mapped[str | None]
    tracked: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    available_at: Mapped[datetime] = mapped_column(server_default=clock)
    created_at: Mapped[datetime] = mapped_column(server_default=clock)
    # FetchedValue, here and above, is no default in the database: it keeps columns out of the ORM's INSERT.
    # Else a role without a grant on what the relay and the consumer fill could not flush.
    published_at: Mapped[datetime | None] = mapped_column(server_default=FetchedValue())
    published_term: Mapped[int | None] = mapped_column(BigInteger, server_default=FetchedValue())
    started_at: Mapped[datetime | None] = mapped_column(server_default=FetchedValue())
    finished_at: Mapped[datetime | None] = mapped_column(server_default=FetchedValue())
    lease_until: Mapped[datetime | None] = mapped_column(server_default=FetchedValue())
    lease_token: Mapped[uuid.UUID | None] = mapped_column(Uuid, server_default=FetchedValue())
    progress: Mapped[float | None] = mapped_column(REAL, server_default=FetchedValue())
    error: Mapped[str | None] = mapped_column(server_default=FetchedValue())


job = JobRow.metadata.tables[f"{SCHEMA}.job"]

transition = Table(
    "transition",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("from", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=clock),
    Column("by", Text, nullable=False),
    Column("note", Text),
)

leader = Table(
    "leader",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("term", BigInteger, nullable=False, server_default=text("0")),
    Column("token", Uuid),
    Column("pid", Integer),
    Column("backend_start", DateTime(timezone=True)),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("since", DateTime(timezone=True)),
    Column("host", Text),
    Column("broker", Text),
    Column("digest", Text),
)

taker = Table(
    "taker",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=clock),
)

slot = Table(
    "slot",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot_at", DateTime(timezone=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=clock),
    Column("by", Text, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("revision", Text, nullable=False),
    Column("min_reader", Text, nullable=False),
)

__all__ = ["JobRow", "job", "leader", "meta", "metadata", "slot", "taker", "transition"]
