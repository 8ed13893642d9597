"""The torture's application: transactions of every length, some of them rolled back, and an account of each.

Run as ``python -m relay.torture.writer FILE NAME JOBS_A_SECOND``. The line that a transaction is attempted is
written before its COMMIT and the line of its outcome after it: whoever finds the first alone, because we were
killed, knows that nobody knows.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

import outbox
from relay import urls
from relay.theatre.journal import Journal

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Engine

QUICK: Final = "torture.quick"
SLOW: Final = "torture.slow"
NEWS: Final = "torture.news"

THREADS: Final = 6
MOST_JOBS: Final = 7
KEYS: Final = 3
KEYED: Final = 0.5
ROLLED_BACK: Final = 0.1
SHORTEST, LONGEST = 0.001, 2.0
"""Seconds that a transaction stays open; as many of 1 to 10 ms as of 0.1 to 1 s."""
LATEST: Final = 2.0
"""Seconds that a job may be delayed."""
ATTEMPTS: Final = 1000
BEHIND: Final = 1.0
AFTER_ERROR: Final = 0.1

WAYS: Final = {"add": 60, "add_slow": 10, "emit": 15, "add_unique": 5, "delay": 10}


@dataclass
class Transaction:
    """One transaction, and the jobs that it added so far."""

    name: str
    jobs: list[str] = field(default_factory=list)
    outcome: str = "rolled"
    """What became of it if nothing else is said."""

    def added(self, id_: UUID, token: str, key: str | None, what: str = "job") -> None:
        """Remember a job: its id, what its handler will know it by, the key that orders it, job or event."""
        self.jobs.append(f"{id_}:{token}:{key or '-'}:{what}")


class Writer:
    """One of the threads, with keys of its own.

    Args:
        name: unlike that of any other, also of an earlier process.
        engine: of the database.
        journal: shared.
        pace: seconds between the beginnings of two transactions.
        stopping: ends it.
    """

    def __init__(
        self, name: str, engine: Engine, journal: Journal, pace: float, stopping: threading.Event
    ) -> None:
        self._name, self._engine, self._journal = name, engine, journal
        self._pace, self._stopping = pace, stopping
        self._dice = random.Random()  # noqa: S311 - nothing secret
        self._transactions = self._jobs = 0

    def run(self) -> None:
        """Write until it is stopped. What an outage kept it from writing is not caught up with."""
        due = time.monotonic() + self._dice.uniform(0, self._pace)
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pace, time.monotonic() - BEHIND)
            self._transact()

    def _transact(self) -> None:
        self._transactions += 1
        transaction = Transaction(f"{self._name}.{self._transactions}")
        attempted = False
        try:
            with Session(self._engine) as session:
                self._fill(session, transaction, self._dice.randrange(MOST_JOBS))
                self._stopping.wait(self._hold())
                self._fill(session, transaction, 1)
                self._journal.note("attempt", transaction.name, *transaction.jobs)
                attempted = True
                if self._dice.random() < ROLLED_BACK:
                    session.rollback()
                else:
                    transaction.outcome = "ambiguous"
                    session.commit()
                    transaction.outcome = "committed"
        except SQLAlchemyError:
            self._stopping.wait(AFTER_ERROR)  # an application whose database is down does not spin
        if not attempted:
            self._journal.note("attempt", transaction.name, *transaction.jobs)
        self._journal.note(transaction.outcome, transaction.name)

    def _hold(self) -> float:
        return math.exp(self._dice.uniform(math.log(SHORTEST), math.log(LONGEST)))

    def _fill(self, session: Session, transaction: Transaction, count: int) -> None:
        for _ in range(count):
            self._jobs += 1
            token = f"{self._name}.{self._jobs}"
            key = f"{self._name}.k{self._dice.randrange(KEYS)}" if self._dice.random() < KEYED else None
            (way,) = self._dice.choices(list(WAYS), list(WAYS.values()))
            self._put(session, transaction, way, token, key)
        session.flush()

    def _put(self, session: Session, transaction: Transaction, way: str, token: str, key: str | None) -> None:
        payload, most = {"token": token}, ATTEMPTS
        if way == "emit":
            transaction.added(outbox.emit(session, NEWS, payload, key=key), token, key, "event")
        elif way == "add_unique":
            unique = f"{self._name}.u{self._dice.randrange(KEYS)}"
            answer = outbox.add_unique(session, QUICK, payload, unique=unique, max_attempts=most)
            if isinstance(answer, outbox.Added):
                transaction.added(answer.id, token, None)
        elif way == "delay":
            delay = self._dice.uniform(0, LATEST)  # no order is promised to what is delayed
            id_ = outbox.add(session, QUICK, payload, key=key, delay=delay, max_attempts=most)
            transaction.added(id_, token, None)
        else:
            kind = SLOW if way == "add_slow" else QUICK
            id_ = outbox.add(session, kind, payload, key=key, max_attempts=most)
            transaction.added(id_, token, key)


def main() -> None:
    """Write until SIGTERM; transactions that are open then come to their end."""
    file, name, rate = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    engine = create_engine(
        urls.sqlalchemy(os.environ["OUTBOX_DATABASE_URL"]),
        pool_size=THREADS,
        connect_args={"connect_timeout": 5, "application_name": name},
    )
    stopping = threading.Event()

    def stop(*_: Any) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    pace = THREADS * (1 + (MOST_JOBS - 1) / 2) / rate
    with Journal(file) as journal:
        names = [f"{name}.{os.getpid()}.{number}" for number in range(THREADS)]
        threads = [
            threading.Thread(target=Writer(each, engine, journal, pace, stopping).run) for each in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
