"""A consumer in a thread, and messages as the relay sends them, for tests of the consuming side."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from handling import Base
from helpers import eventually
from kombu import Connection
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from outbox import events, message
from outbox.consumer import Consumer
from outbox.consumer.subscription import EXCHANGE
from outbox.runner.delivery import Delivery, delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database

    from outbox.events import Event
    from outbox.handlers import Handlers


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

    def broker(self) -> Connection:
        """Return a connection that waits for confirms: without, a quorum queue may lose what it was sent."""
        amqp = self.broker_url.startswith("amqp")
        return Connection(self.broker_url, transport_options={"confirm_publish": True} if amqp else {})

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
        if "headers" in row:
            row["headers"] = json.dumps(row["headers"])
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        with self.database.engine.begin() as connection:
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
        with self.database.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT * FROM outbox.job WHERE id = ANY(:ids) ORDER BY pos"), {"ids": ids}
            ).all()
        with self.broker() as broker:
            producer = broker.Producer()
            for row in rows:
                properties, headers = _outgoing(row, version)
                producer.publish(
                    bytes(row.payload),
                    exchange=options.get("exchange", EXCHANGE),
                    routing_key=options.get("routing_key", row.kind),
                    headers=headers,
                    **properties,
                )

    def delivery(self, job_id: uuid.UUID, version: int | None = 1, *, redelivered: bool = False) -> Delivery:
        """Return a job's message as a consumer gets it; without a version it is an event's."""
        with self.database.engine.connect() as connection:
            row = connection.execute(text("SELECT * FROM outbox.job WHERE id = :id"), {"id": job_id}).one()
        properties, headers = _outgoing(row, version)
        return delivery(
            body=bytes(row.payload),
            properties=properties,
            headers=headers,
            queue="receipts",
            routing_key=row.kind,
            redelivered=redelivered,
        )

    def foreign(self, body: bytes = b"{}", *, redelivered: bool = False, **properties: Any) -> Delivery:
        """Return anybody's message as a consumer gets it."""
        headers = properties.pop("headers", {})
        routing_key = properties.pop("routing_key", "")
        native = {"message_id": "m-1", "type": "order.paid", "content_type": "application/json", **properties}
        return delivery(
            body=body,
            properties={name: value for name, value in native.items() if value is not None},
            headers=headers,
            queue="receipts",
            routing_key=routing_key,
            redelivered=redelivered,
        )

    def publish(self, body: bytes, *, routing_key: str, exchange: str = EXCHANGE, **properties: Any) -> None:
        """Send any message."""
        with self.broker() as broker:
            broker.Producer().publish(body, exchange=exchange, routing_key=routing_key, **properties)

    def value(self, query: LiteralString, *values: object) -> Any:
        """Return the first column of the first row."""
        return self.database.value(query, *values)

    def seconds_until(self, column: LiteralString) -> float:
        """Return how far in the future a moment of the only job is, by the database's clock."""
        return float(self.value(f"SELECT extract(epoch FROM {column} - clock_timestamp()) FROM outbox.job"))

    def stage(self) -> None:
        """Make what is scheduled pending, as only the leading relay may."""
        self.database.execute(
            "UPDATE outbox.leader SET pid = pg_backend_pid();"
            "UPDATE outbox.job SET state = 'pending', version = version + 1 WHERE state = 'scheduled'"
        )

    def row(self, job_id: uuid.UUID) -> Row:
        """Return a job's row."""
        with self.database.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM outbox.job WHERE id = :id"), {"id": job_id}).one()
        return Row(**{name: getattr(found, name) for name in Row.__annotations__})

    def state(self, job_id: uuid.UUID) -> str:
        """Return where a job stands."""
        return self.row(job_id).state

    def effects(self, job_id: uuid.UUID | None = None) -> int:
        """Count what handlers wrote, for one job or for all."""
        with self.database.engine.connect() as connection:
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

    def delete_queue(self, queue: str = "receipts") -> None:
        """Delete a queue under its consumer."""
        with self.broker() as broker:
            broker.default_channel.queue_delete(queue)

    def refused(self, handlers: Handlers[Any], **options: Any) -> BaseException | None:
        """Run a consumer that is to end by itself; return what it raised."""
        with self.consuming(handlers, **options) as running:
            return running.ended()

    def ready(self, queue: str = "receipts") -> int:
        """Count the messages that wait in a queue, without those in a consumer's hands."""
        with self.broker() as broker:
            return int(broker.default_channel.queue_declare(queue, passive=True).message_count)

    def close(self) -> None:
        """Let go of the database, once no handler that outlived its consumer is at it any more."""
        eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("outbox-")])
        self.engine.dispose()


def _outgoing(row: Any, version: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    return message.outgoing(
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

    def started(self, shop: Shop) -> None:
        """Wait until it takes messages."""
        eventually(lambda: shop.heard(events.ConsumerStarted) or self.error, 20)
        assert self.error is None

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
