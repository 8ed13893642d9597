"""The relay's parts for tests: jobs in SQL, a term of one's own, a relay in a thread, a look into queues."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import amqp
from helpers import eventually

from outbox.events import Event
from relay.config import Settings
from relay.leader import Election
from relay.loop import Relay
from relay.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database

    from relay.shift import Shift
    from relay.term import Term

E = TypeVar("E", bound=Event)

NOBODY = "amqp://guest:guest@127.0.0.1:1//"
"""A broker that does not exist: for tests of what needs none."""


def row(**changes: Any) -> Row:
    """A pending row that is in no table."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "version": 1,
        "pos": 1,
        "kind": "a.b",
        "key": None,
        "payload": b"{}",
        "content_type": "application/json",
        "headers": {},
        "exchange": None,
        "routing_key": None,
        "attempt": 0,
        "sends": 1,
        "tracked": True,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Row(**(values | changes))


def settings(database: Database, broker_url: str = NOBODY, **changes: Any) -> Settings:
    """Settings for one database and one broker."""
    return Settings(database_url=database.dsn, broker_url=broker_url, **changes)


def election(chosen: Settings, seen: list[Event] | None = None, digest: str = "same") -> Election:
    """A candidate."""
    events = [] if seen is None else seen
    return Election(chosen, digest=digest, broker=f"broker {digest}", observe=events.append)


@contextmanager
def leading(database: Database, **changes: Any) -> Iterator[Term]:
    """Win the election of a database, and let go at the end."""
    term = election(settings(database, **changes)).campaign()
    assert term is not None
    try:
        yield term
    finally:
        term.backend.close()


def add(database: Database, count: int = 1, **columns: Any) -> list[uuid.UUID]:
    """Insert jobs in one transaction, in SQL, and return their ids in line.

    Args:
        database: where to.
        count: how many.
        columns: values of columns; where one is callable, its result for the job's number, from 0.
    """
    given = {"kind": "a.b", "payload": b"{}"} | columns
    names = ", ".join(["id", *given])
    ids = [uuid.uuid4() for _ in range(count)]
    lines = [[each, *(_of(value, n) for value in given.values())] for n, each in enumerate(ids)]
    with database.connect() as connection, connection.transaction(), connection.cursor() as cursor:
        marks = ", ".join(["%s"] * (len(given) + 1))
        cursor.executemany(f"INSERT INTO outbox.job ({names}) VALUES ({marks})", lines)
    return ids


def _of(value: Any, number: int) -> Any:
    return value(number) if callable(value) else value


def states(database: Database) -> dict[str, int]:
    """How many jobs are in each state."""
    return dict(database.execute("SELECT state, count(*) FROM outbox.job GROUP BY state"))


class Running:
    """A relay at work in a thread.

    Args:
        chosen: its settings.
    """

    def __init__(self, chosen: Settings) -> None:
        self.seen: list[Event] = []
        self.failure: BaseException | None = None
        self.relay = Relay(chosen, observers=[self.seen.append])
        self.polls = 0
        self.shift: Any = None
        """The work of its latest term."""
        self._poll, self.relay.poll = self.relay.poll, self._counted  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.relay.run()
        except BaseException as failure:  # noqa: BLE001 - a test looks at it
            self.failure = failure

    def _counted(self, shift: Shift) -> float:
        self.polls += 1
        self.shift = shift
        return self._poll(shift)

    def polls_in(self, seconds: float) -> float:
        """Polls a second from now on: how much a relay that has nothing to do rests."""
        before = self.polls
        self.thread.join(seconds)
        return (self.polls - before) / seconds

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in list(self.seen) if isinstance(event, kind)]

    def wait(self, kind: type[E], timeout: float = 15.0, count: int = 1) -> E:
        """Wait for the ``count``-th event of a kind."""
        return eventually(lambda: self.of(kind)[count - 1 : count], timeout)[0]

    def stop(self) -> None:
        """Stop it gracefully, and wait."""
        self.relay.stop()
        self.join()

    def join(self, timeout: float = 15.0) -> None:
        """Wait for its end."""
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "the relay does not end"


@contextmanager
def relaying(database: Database, broker_url: str, **changes: Any) -> Iterator[Running]:
    """Run a relay in a thread, and stop it at the end."""
    running = Running(settings(database, broker_url, **changes))
    try:
        yield running
        if running.failure is not None:
            raise running.failure
    finally:
        running.stop()


class Line:
    """A plain AMQP connection of a test, to declare and to look with.

    Args:
        url: ``amqp://…``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = amqp.Connection(
            host=f"{parts.hostname}:{parts.port}",
            userid=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            virtual_host=unquote(parts.path[1:]) or "/",
            connect_timeout=5,
            read_timeout=10,
            write_timeout=10,
        )
        self._connection.connect()
        self.channel: Any = self._connection.channel()

    def bind(self, queue: str, kinds: str = "#", exchange: str = "outbox", **arguments: Any) -> None:
        """Declare exchange and queue, and bind it."""
        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        self.channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        self.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=named)
        self.channel.queue_bind(queue, exchange, kinds)

    def depth(self, queue: str) -> int:
        """How many messages are ready."""
        return int(self.channel.queue_declare(queue, passive=True).message_count)

    def take(self, queue: str) -> list[Any]:
        """Take every ready message."""
        taken = []
        while (message := self.channel.basic_get(queue, no_ack=True)) is not None:
            taken.append(message)
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._connection.collect()


@contextmanager
def line(url: str) -> Iterator[Line]:
    """Open an AMQP connection, and close it at the end."""
    opened = Line(url)
    try:
        yield opened
    finally:
        opened.close()


def ids_of(messages: list[Any]) -> list[uuid.UUID]:
    """The jobs that messages carry."""
    return [uuid.UUID(message.properties["message_id"]) for message in messages]


def nothing() -> None:
    """Stand in for a heartbeat."""


def within(seconds: float, work: Callable[[], object]) -> None:
    """Run ``work`` in a thread and fail if it takes longer."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"still at it after {seconds} s"
