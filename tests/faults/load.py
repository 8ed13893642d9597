"""An application that commits and rolls back jobs at a rate, and keeps account of it."""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from helpers import eventually
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import outbox
from relay.theatre.judge import Account, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

KIND = "order.paid"
_KEYS = 4


def at_once() -> float:
    """Hold a transaction open for no longer than it needs."""
    return 0.0


def log_uniform(least: float, most: float) -> Callable[[], float]:
    """Return a source of durations in seconds, as many between 1 and 10 ms as between 1 and 10 s."""
    return lambda: math.exp(random.uniform(math.log(least), math.log(most)))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the writers behave.

    Args:
        writers: threads, each with a session of its own.
        rate: jobs a second of all writers together.
        jobs: in each transaction. Half of them have a key that no other writer uses.
        rolled_back: the share of the transactions that end with ROLLBACK.
        hold: for how many seconds each transaction stays open between its first job and its last.
        total: jobs after which they end by themselves; None: not before :meth:`Load.stop`.
        options: for the session, as in ``PGOPTIONS``.
        kind: of the jobs.
    """

    writers: int = 4
    rate: float = 500.0
    jobs: int = 5
    rolled_back: float = 0.1
    hold: Callable[[], float] = at_once
    total: int | None = None
    options: str = ""
    kind: str = KIND


class Load:
    """Writers at work while the context is open.

    Args:
        database: where they write.
        shape: how.
    """

    def __init__(self, database: Database, shape: Shape) -> None:
        self.account = Account()
        self._database, self._shape = database, shape
        self._engine = create_engine(
            database.url,
            pool_size=shape.writers,
            connect_args={"options": shape.options, "connect_timeout": 5},
        )
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"writer-{number}", daemon=True)
            for number in range(shape.writers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End after the transactions that are open; the account is complete then."""
        self._stopping.set()
        self.join(30)
        self._engine.dispose()

    def join(self, timeout: float) -> None:
        """Wait until every writer has written its share of the total.

        Raises:
            AssertionError: not within ``timeout`` seconds.
        """
        eventually(lambda: not any(thread.is_alive() for thread in self._threads), timeout, every=0.05)

    def wait_committed(self, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` more jobs than now are committed."""
        wanted = len(self.account.committed) + count
        eventually(lambda: len(self.account.committed) >= wanted, timeout)

    def burst(self, count: int) -> None:
        """Commit ``count`` more jobs at once, in one transaction: a relay's window is full for a moment."""
        self.account.committed.extend(backlog(self._database, count).committed)

    def _work(self, number: int) -> None:
        shape, began = self._shape, time.monotonic()
        every = shape.jobs * shape.writers / shape.rate
        turns = math.ceil(shape.total / shape.jobs / shape.writers) if shape.total else math.inf
        turn = 0
        while turn < turns and not self._stopping.wait(max(0.0, began + turn * every - time.monotonic())):
            self._transact(f"writer {number}")
            turn += 1

    def _transact(self, writer: str) -> None:
        jobs: list[Written] = []
        committing = False
        try:
            with Session(self._engine) as session:
                self._add(session, writer, jobs, self._shape.jobs - 1)
                self._stopping.wait(self._shape.hold())
                self._add(session, writer, jobs, 1)
                if random.random() < self._shape.rolled_back:
                    session.rollback()
                else:
                    committing = True
                    session.commit()
        except DBAPIError:
            lost = self.account.ambiguous if committing else self.account.rolled_back
            lost.update(job.id for job in jobs)
            self._stopping.wait(0.05)  # an application whose database is down does not spin
        else:
            if committing:
                self.account.committed.extend(jobs)
            else:
                self.account.rolled_back.update(job.id for job in jobs)

    def _add(self, session: Session, writer: str, jobs: list[Written], count: int) -> None:
        for _ in range(count):
            key = (
                f"{self._shape.kind}, {writer}, {random.randrange(_KEYS)}" if random.random() < 0.5 else None
            )
            job = outbox.add(session, self._shape.kind, {"writer": writer, "nth": len(jobs)}, key=key)
            jobs.append(Written(job, key))
        session.flush()


def backlog(database: Database, count: int) -> Account:
    """Commit ``count`` jobs in one statement, half of them under one of 500 keys."""
    rows = database.execute(
        """INSERT INTO outbox.job (id, kind, key, payload)
           SELECT gen_random_uuid(), %s, CASE WHEN n %% 2 = 0 THEN 'key ' || n %% 1000 END, '{}'
           FROM generate_series(1, %s) n RETURNING id, key""",
        KIND,
        count,
    )
    return Account([Written(*row) for row in rows])
