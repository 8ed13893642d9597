"""A worker that saves "running" to the row of its job at once, as Django's ``save`` does it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

import psycopg
from field.peers import KIND
from relays import line

if TYPE_CHECKING:
    from databases import Database

QUEUE = "worker"
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, state text)"


class Worker:
    """Takes every message in a thread, with no library of ours, while the context is open.

    Args:
        database: where the orders are.
        url: ``amqp://…``.
    """

    def __init__(self, database: Database, url: str) -> None:
        self._database, self._url = database, url
        self.saved: list[tuple[int, str]] = []
        """The order of each message, and ``found``, ``inserted``, or the error that ended the job."""
        self._bound, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def __enter__(self) -> Self:
        self._database.execute(ORDERS)
        self._thread.start()
        assert self._bound.wait(20), "the worker could not bind its queue"
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    @property
    def counts(self) -> Counter[str]:
        """How often it met what."""
        return Counter(how for _, how in self.saved)

    def _run(self) -> None:
        with line(self._url) as opened:
            opened.bind(QUEUE, KIND)
            self._bound.set()
            while not self._over.wait(0.005):
                for message in opened.take(QUEUE):
                    number = json.loads(message.body)["order"]
                    self.saved.append((number, self._save(number)))

    def _save(self, number: int) -> str:
        with self._database.connect() as session:
            try:
                if session.execute("UPDATE orders SET state = 'running' WHERE id = %s", (number,)).rowcount:
                    return "found"
                session.execute("INSERT INTO orders VALUES (%s, 'running')", (number,))
            except psycopg.Error as error:
                return type(error).__name__
        return "inserted"
