"""SQLAlchemy Core, no session: a job is an INSERT like any other, beside those of the rows it belongs to.

    export DATABASE_URL=postgresql://…
    outbox migrate
    python examples/core_script.py 7 129.90

It prints the job's id. A total below 0 breaks a rule of the table ``orders``: no order, no job, no event.
"""

from __future__ import annotations

import os
import sys
import uuid
from decimal import Decimal

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Numeric, Table, create_engine, make_url

import outbox

orders = Table(
    "orders",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("total", Numeric, CheckConstraint("total >= 0"), nullable=False),
)


def pay(order_id: int, total: Decimal) -> uuid.UUID:
    """Write an order, its job and its event; all or none."""
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    job_id = uuid.uuid4()
    with engine.begin() as connection:
        orders.create(connection, checkfirst=True)
        # First the job, to show that its place does not matter: what counts is the transaction.
        connection.execute(outbox.insert("order.paid", {"order_id": order_id}, id=job_id))
        connection.execute(orders.insert().values(id=order_id, total=total))
        # And news of it for whoever listens, such as plain_consumer.py.
        booked = {"order_id": order_id, "total": total}
        connection.execute(outbox.insert("order.booked", booked, key=f"order:{order_id}", tracked=False))
    return job_id


if __name__ == "__main__":
    print(pay(int(sys.argv[1]), Decimal(sys.argv[2])))
