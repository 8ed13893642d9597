"""The demo's handlers, run by ``outbox consume relay.demo.receipts:handlers``: ten lines, like anybody's."""

from __future__ import annotations

import os
from decimal import Decimal

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

import outbox
from relay import urls
from relay.demo.shop import Receipt

engine = create_engine(urls.sqlalchemy(os.environ["OUTBOX_DATABASE_URL"]), pool_pre_ping=True)
handlers = outbox.Handlers("receipts", session=sessionmaker(engine))


@handlers("order.paid")
def write_receipt(job: outbox.Job, session: Session) -> None:
    """Write the receipt; it commits with the job's own transition."""
    session.add(Receipt(order_id=job.payload["order_id"], total=Decimal(job.payload["total"])))
