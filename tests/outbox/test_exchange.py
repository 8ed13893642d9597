"""A consumer listens where its relay publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import relays
from helpers import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from databases import Database
    from processes import Processes

APP = """
import sqlalchemy as sa, sqlalchemy.orm as orm, outbox
handlers = outbox.Handlers("q", session=orm.sessionmaker(sa.create_engine({url!r})))
handlers("a.b")(lambda job, session: None)
"""


def test_a_relay_and_a_consumer_of_another_exchange_meet(
    database: Database, amqp_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP.format(url=database.url))
    env = {"OUTBOX_BROKER_URL": amqp_url, "OUTBOX_EXCHANGE": "news", "OUTBOX_LOG": "json"}
    consumer = processes.outbox("consume", "app:handlers", "--app-dir", str(tmp_path), env=env)
    consumer.wait_event("consumer_started")
    relays.add(database)
    with relays.relaying(database, amqp_url, exchange="news"):
        eventually(lambda: relays.states(database) == {"succeeded": 1})
