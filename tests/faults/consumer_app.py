"""A consumer as a process of its own, for tests that kill it: ``python consumer_app.py``.

Configured by the environment: DATABASE_URL, BROKER_URL, CONCURRENCY, and in seconds GRACE, LEASE, and
HEARTBEAT, the broker's.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from outbox import logs
from outbox.backoff import Backoff
from outbox.consumer import Consumer, subscription
from outbox.handlers import Handlers

if TYPE_CHECKING:
    import uuid

    from outbox.job import Job
    from outbox.leased import LeasedJob

sessions = sessionmaker(create_engine(os.environ["DATABASE_URL"], pool_size=20))
handlers = Handlers("receipts", session=sessions)


@handlers("order.paid", backoff=Backoff.fixed(0))
def order_paid(job: Job, session: Session) -> None:
    """Write the effect, and do what the payload says."""
    write(session, job.id)
    session.flush()
    act(job.payload)


@handlers.leased("report", seconds=float(os.environ.get("LEASE", "2")), backoff=Backoff.fixed(0))
def report(job: LeasedJob[Session]) -> None:
    """Do what the payload says, and finish."""
    act(job.payload)
    with job.finish() as session:
        write(session, job.id)


def write(session: Session, job_id: uuid.UUID) -> None:
    """Write an effect."""
    session.execute(text("INSERT INTO effect (job_id, note) VALUES (:id, '')"), {"id": job_id})


def act(payload: Any) -> None:
    """Behave as a test wants it."""
    match payload:
        case {"die": True}:
            os.kill(os.getpid(), signal.SIGKILL)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case _:
            pass


def main() -> None:
    """Consume until SIGTERM."""
    logs.configure(json_lines=True, level=logging.DEBUG)
    if "HEARTBEAT" in os.environ:
        subscription.HEARTBEAT = float(os.environ["HEARTBEAT"])  # type: ignore[misc]
    consumer = Consumer(
        handlers,
        broker_url=os.environ["BROKER_URL"],
        concurrency=int(os.environ.get("CONCURRENCY", "4")),
        grace=float(os.environ.get("GRACE", "10")),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: consumer.stop())
    consumer.run()


if __name__ == "__main__":
    main()
    sys.exit(0)
