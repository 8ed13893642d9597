"""A consumer in a thread, and messages as the relay sends them, for tests of the consuming side."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from helpers import eventually
from kombu import Connection
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from outbox import message
from outbox.consumer import Consumer
from outbox.subscription import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database

    from outbox.events import Event
    from outbox.handlers import Handlers


class Base(DeclarativeBase):
    """The application's own tables."""


class Effect(Base):
    """What a handler wrote: how often is what a test wants to know."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID]
    note: Mapped[str] = mapped_column(default="")


class Shop:
    """An application with a table of its own, and the relay's part played by hand.

    Args:
        database: Where it lives.
        broker_url: Where its messages go.
    """

    def __init__(self, database: Database, broker_url: str = "") -> None:
        self.database = database
        self.broker_url = broker_url
        self.engine = create_engine(database.url, pool_size=20)
        self.sessions = sessionmaker(self.engine)
        self.seen: list[Event] = []
        Base.metadata.create_all(self.engine)

    def observe(self, event: Event) -> None:
        """Remember what the consumer said."""
        self.seen.append(event)

    def heard(self, kind: type[Event], **match: object) -> list[Any]:
        """Return the events of a class whose fields have these values."""
        return [
            event
            for event in list(self.seen)
            if type(event) is kind and all(getattr(event, name) == value for name, value in match.items())
        ]

    def job(self, kind: str = "order.paid", payload: object = None, **columns: Any) -> uuid.UUID:
        """Insert a job as if the relay had just published it."""
        row = {
            "id": uuid.uuid4(),
            "kind": kind,
            "payload": json.dumps(payload).encode(),
            "state": "pending",
            **columns,
        }
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        with self.engine.begin() as connection:
            connection.execute(text(f"INSERT INTO outbox.job ({names}) VALUES ({values})"), row)
            if row["state"] == "pending":
                connection.execute(
                    text("UPDATE outbox.job SET state = 'published', published_at = now() WHERE id = :id"),
                    row,
                )
        return row["id"]

    def send(self, job_id: uuid.UUID, version: int | None = 1, **options: Any) -> None:
        """Send a job's message to its queue."""
        self.send_all([job_id], version, **options)

    def send_all(self, ids: list[uuid.UUID], version: int | None = 1, **options: Any) -> None:
        """Send the messages of jobs as the relay does; without a version they are those of events."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT * FROM outbox.job WHERE id = ANY(:ids) ORDER BY pos"), {"ids": ids}
            ).all()
        with Connection(self.broker_url) as broker:
            producer = broker.Producer()
            for row in rows:
                properties, headers = message.outgoing(
                    id=row.id,
                    kind=row.kind,
                    key=row.key,
                    content_type=row.content_type,
                    headers=row.headers,
                    version=version,
                    attempt=row.attempt + 1,
                    term=1,
                    possible_duplicate=False,
                    created_at=row.created_at,
                )
                producer.publish(
                    bytes(row.payload),
                    exchange=options.get("exchange", EXCHANGE),
                    routing_key=options.get("routing_key", row.kind),
                    headers=headers,
                    **properties,
                )

    def publish(self, body: bytes, *, routing_key: str, exchange: str = EXCHANGE, **properties: Any) -> None:
        """Send any message."""
        with Connection(self.broker_url) as broker:
            broker.Producer().publish(body, exchange=exchange, routing_key=routing_key, **properties)

    def value(self, query: LiteralString, *values: object) -> Any:
        """Return the first column of the first row."""
        return self.database.value(query, *values)

    def row(self, job_id: uuid.UUID) -> Row:
        """Return a job's row."""
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM outbox.job WHERE id = :id"), {"id": job_id}).one()
        return Row(**{name: getattr(found, name) for name in Row.__annotations__})

    def state(self, job_id: uuid.UUID) -> str:
        """Return where a job stands."""
        return self.row(job_id).state

    def effects(self, job_id: uuid.UUID | None = None) -> int:
        """Count what handlers wrote, for one job or for all."""
        with self.engine.connect() as connection:
            query = "SELECT count(*) FROM effect" + ("" if job_id is None else " WHERE job_id = :id")
            return int(connection.execute(text(query), {"id": job_id}).scalar_one())

    def becomes(self, job_id: uuid.UUID, state: str, timeout: float = 15.0) -> Row:
        """Wait until a job has a state."""

        def there() -> Row:
            row = self.row(job_id)
            assert row.state == state, row
            return row

        return eventually(there, timeout)

    @contextmanager
    def consuming(self, handlers: Handlers[Any], **options: Any) -> Iterator[Running]:
        """Run a consumer in a thread; it is stopped at the end."""
        consumer = Consumer(
            handlers, **{"broker_url": self.broker_url, "observer": self.observe, "grace": 5.0, **options}
        )
        running = Running(consumer)
        running.thread.start()
        try:
            yield running
        finally:
            running.stop()

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


@dataclass
class Row:
    """A job's row, as far as tests look at it."""

    id: uuid.UUID
    kind: str
    key: str | None
    payload: bytes
    content_type: str
    headers: dict[str, Any]
    exchange: str | None
    routing_key: str | None
    state: str
    version: int
    attempt: int
    max_attempts: int
    available_at: Any
    started_at: Any
    finished_at: Any
    lease_until: Any
    lease_token: uuid.UUID | None
    progress: float | None
    error: str | None


@dataclass
class Running:
    """A consumer in a thread."""

    consumer: Consumer[Any]
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def stop(self, timeout: float = 20.0) -> None:
        """Stop it and wait for its end."""
        self.consumer.stop()
        self.thread.join(timeout)
        assert not self.thread.is_alive()

    def ended(self, timeout: float = 20.0) -> BaseException | None:
        """Wait for its end; return what it raised."""
        self.thread.join(timeout)
        assert not self.thread.is_alive()
        return self.error

    def _run(self) -> None:
        try:
            self.consumer.run()
        except BaseException as error:  # noqa: BLE001 - a test asks for it
            self.error = error
