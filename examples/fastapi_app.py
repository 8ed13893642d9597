"""FastAPI and an awaited session: an order and its job in one transaction, and the handler of the job.

    export DATABASE_URL=postgresql://… OUTBOX_BROKER_URL=amqp://…
    outbox migrate
    fastapi run examples/fastapi_app.py
    outbox relay
    outbox consume --app-dir examples fastapi_app:handlers

Nothing is set up for the outbox: no middleware, no start-up hook, no second engine. ``outbox.add`` is a
``session.add``, so there is nothing to await and nothing that could fail because a broker is away.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from decimal import Decimal  # noqa: TC003 - pydantic and SQLAlchemy read the annotations at run time
from typing import TYPE_CHECKING, Annotated
from uuid import UUID  # noqa: TC003

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

engine = create_async_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg"))
SessionLocal = async_sessionmaker(engine)


class Base(DeclarativeBase):
    """The application's own tables; the outbox keeps to its own."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[Decimal]


class Receipt(Base):
    """A receipt, which a handler writes."""

    __tablename__ = "receipts"
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class NewOrder(BaseModel):
    """What a client sends."""

    id: int
    total: Decimal


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open a session for a request. What is not committed when it ends is rolled back."""
    async with SessionLocal() as session:
        yield session


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the application's tables; a real one has migrations."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
async def pay(order: NewOrder, session: Annotated[AsyncSession, Depends(get_session)]) -> dict[str, UUID]:
    """Take an order."""
    session.add(Order(id=order.id, total=order.total))
    job = outbox.add(session, "order.paid", {"order_id": order.id}, key=f"order:{order.id}")
    try:
        # Here, and not in get_session: what stands after its yield may run when the client has its 201.
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "there is such an order") from None  # and no job
    return {"job": job}


@app.get("/jobs/{job_id}")
async def show(job_id: UUID, session: Annotated[AsyncSession, Depends(get_session)]) -> dict[str, str | int]:
    """Say how a job stands: the table is the truth about it, from pending to succeeded."""
    job = await outbox.get_async(session, job_id)
    if job is None:
        raise HTTPException(404)
    return {"kind": job.kind, "state": job.state, "attempt": job.attempt}


handlers = outbox.Handlers("receipts", session=SessionLocal)


@handlers("order.paid")
async def send_receipt(job: outbox.Job, session: AsyncSession) -> None:
    """Commit the receipt and the job's completion together: however often it is delivered, one receipt."""
    session.add(Receipt(order_id=job.payload["order_id"]))
