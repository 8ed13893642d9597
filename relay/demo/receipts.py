"""The demo's handlers, for ``outbox consume relay.demo.receipts:handlers``; each run is noted in a file."""

from __future__ import annotations

import os
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

import outbox
from relay import urls
from relay.demo.shop import Receipt
from relay.theatre.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

engine = create_engine(urls.sqlalchemy(os.environ["OUTBOX_DATABASE_URL"]), pool_pre_ping=True)
notes = Journal(Path(os.environ["DEMO_FOLDER"]) / f"handled-{os.getpid()}")


@contextmanager
def noted(job: outbox.Job) -> Iterator[None]:
    """Note that a job was handed to its handler, whatever becomes of it."""
    notes.note(job.id)
    yield


handlers = outbox.Handlers("receipts", session=sessionmaker(engine), around=noted)


@handlers("order.paid")
def write_receipt(job: outbox.Job, session: Session) -> None:
    """Write the receipt; it commits with the job's own transition."""
    session.add(Receipt(order_id=job.payload["order_id"], total=Decimal(job.payload["total"])))
