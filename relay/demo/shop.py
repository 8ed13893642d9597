"""The demo's application: commits and rolls back orders, and notes which is which in a file of its own.

Run as ``python -m relay.demo.shop FOLDER SECONDS ORDERS_A_SECOND``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Final

from sqlalchemy import ForeignKey, Numeric, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import outbox
from relay import urls
from relay.theatre.journal import Journal

CUSTOMERS: Final = 20
ROLLED_BACK: Final = 0.15


class Base(DeclarativeBase):
    """The shop's own tables: ours are none of its business."""


class Order(Base):
    """What a customer paid for."""

    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer: Mapped[int]
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))


class Receipt(Base):
    """The effect of a job. No constraint keeps a second one away: that is the version check's work."""

    __tablename__ = "shop_receipt"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("shop_order.id"))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))


class CardDeclined(Exception):
    """Rolls an order back, after its job was added."""


def buy(session: Session, number: int, *, declined: bool) -> str:
    """Place one order and add its job, in one transaction; return the job's id as the journal has it."""
    customer, total = number % CUSTOMERS, Decimal(number % 900 + 99) / 10
    session.add(Order(id=number, customer=customer, total=total))
    job = outbox.add(session, "order.paid", {"order_id": number, "total": total}, key=f"customer:{customer}")
    session.flush()  # the job is in the table now, and only the commit decides whether it exists
    entry = f"{job} customer:{customer} {number}"
    if declined:
        raise CardDeclined(entry)
    return entry


def main() -> None:
    """Serve customers for a while."""
    folder, seconds, rate = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    engine = create_engine(urls.sqlalchemy(os.environ["OUTBOX_DATABASE_URL"]))
    dice = random.Random(7)  # noqa: S311 - which cards are declined
    began = time.monotonic()
    with Journal(folder / "committed") as committed, Journal(folder / "rolled_back") as rolled_back:
        for number in range(1, int(seconds * rate) + 1):
            try:
                with Session(engine) as session, session.begin():
                    entry = buy(session, number, declined=dice.random() < ROLLED_BACK)
                committed.note(entry)
            except CardDeclined as declined:
                rolled_back.note(declined)
            time.sleep(max(0.0, began + number / rate - time.monotonic()))


if __name__ == "__main__":
    main()
