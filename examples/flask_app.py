"""Flask-SQLAlchemy: an order, its job and an event in one transaction, and the handler of the job.

    export DATABASE_URL=postgresql://… OUTBOX_BROKER_URL=amqp://…
    outbox migrate
    flask --app examples/flask_app run
    outbox relay
    outbox consume --app-dir examples flask_app:handlers

``db.session`` is all that ``outbox.add`` needs. The job is work that this application does, once; the event
is news for whoever listens, such as ``plain_consumer.py``.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

import outbox

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = make_url(os.environ["DATABASE_URL"]).set(
    drivername="postgresql+psycopg"
)
db = SQLAlchemy(app)


class Order(db.Model):  # type: ignore[name-defined, misc]
    """An order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[Decimal]


class Receipt(db.Model):  # type: ignore[name-defined, misc]
    """A receipt, which a handler writes."""

    __tablename__ = "receipts"
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


with app.app_context():
    db.create_all()  # a real application has migrations
    handlers = outbox.Handlers("receipts", session=sessionmaker(db.engine))


@app.post("/orders")
def pay() -> tuple[dict[str, Any], int]:
    """Take an order."""
    order = request.get_json()
    db.session.add(Order(id=order["id"], total=Decimal(order["total"])))
    job = outbox.add(db.session, "order.paid", {"order_id": order["id"]}, key=f"order:{order['id']}")
    outbox.emit(db.session, "order.booked", {"order_id": order["id"], "total": Decimal(order["total"])})
    try:
        db.session.commit()
    except IntegrityError:
        return {"error": "there is such an order"}, 409  # and neither job nor event
    return {"job": job}, 201


@app.delete("/jobs/<uuid:job_id>")
def cancel(job_id: Any) -> tuple[dict[str, str], int]:
    """Cancel a job that has not begun. If somebody was faster, the answer says so, and nothing is raised."""
    result = outbox.cancel(db.session, job_id, "the customer asked for it")
    db.session.commit()
    match result:
        case outbox.Applied() | outbox.AlreadyApplied():
            return {"state": "cancelled"}, 200
        case outbox.Illegal(state):
            return {"state": state}, 409
    return {"state": "unknown"}, 404


@handlers("order.paid")
def send_receipt(job: outbox.Job, session: Session) -> None:
    """Commit the receipt and the job's completion together: however often it is delivered, one receipt."""
    session.add(Receipt(order_id=job.payload["order_id"]))
