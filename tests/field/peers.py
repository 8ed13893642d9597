"""How it is done elsewhere: what works until somebody is killed, waits, or starts twice. Small, but for real.

What a test kills is a program of its own: ``peers.py migrate``, ``peers.py serve``, ``peers.py shop …``,
``peers.py mutex …``. The environment says where the servers are: DSN, BROKER_URL, REDIS_URL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import amqp
import psycopg
import redis
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.orm import Session

import outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database
    from sqlalchemy import Engine

BUSY = 75
PATIENCE = 0.5
"""Seconds for which a migration waits for the lock's row to go away; Liquibase's five minutes end as this."""
KIND = "order.placed"
LOCK_TABLE = "CREATE TABLE IF NOT EXISTS peer_lock (id int PRIMARY KEY, owner int)"
WAIT_AT_THE_GATE = """
DO $$ BEGIN
WHILE EXISTS (SELECT FROM pg_class WHERE relname = 'in_ddl') LOOP PERFORM pg_sleep(0.02); END LOOP; END $$
"""


def migrate() -> int:
    """Migrate under a lock that is a committed row, and that a ``finally`` gives back."""
    with psycopg.connect(os.environ["DSN"], autocommit=True) as session:
        session.execute(LOCK_TABLE)
        deadline = time.monotonic() + PATIENCE
        while not _locked(session):
            if time.monotonic() > deadline:
                sys.stderr.write("another migration is running\n")
                return BUSY
            time.sleep(0.05)
        try:
            with session.transaction():
                session.execute("CREATE TABLE IF NOT EXISTS peer_table (id int)")
                session.execute(WAIT_AT_THE_GATE)
        finally:
            session.execute("DELETE FROM peer_lock")
    return 0


def _locked(session: psycopg.Connection) -> bool:
    try:
        session.execute("INSERT INTO peer_lock VALUES (1, %s)", (os.getpid(),))
    except psycopg.errors.UniqueViolation:
        return False
    return True


class Candidate:
    """A server that announces itself with its own clock, and then looks whose stamp is the earliest.

    Args:
        database: with the table ``peer_server``.
        name: of the server.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.name = name
        self._session = database.connect(autocommit=False)

    def announce(self) -> None:
        """Write its row; nobody sees it before :meth:`commit`."""
        self._session.execute("INSERT INTO peer_server VALUES (%s, %s)", (self.name, datetime.now(UTC)))

    def commit(self) -> None:
        """Let its row be seen."""
        self._session.commit()

    def is_master(self) -> bool:
        """Look who was first."""
        query = "SELECT name FROM peer_server ORDER BY first_heartbeat LIMIT 1"
        return self._session.execute(query).fetchone() == (self.name,)

    def close(self) -> None:
        """End its session."""
        self._session.close()


class ConcurrentModification(Exception):
    """A job's version is not the one that was read: this server does not know how to go on."""


def serve() -> int:
    """Do jobs under optimistic versions, until one has moved on meanwhile."""
    with psycopg.connect(os.environ["DSN"], autocommit=True) as session:
        query = "SELECT id, version FROM peer_job WHERE NOT done ORDER BY id LIMIT 1"
        while (job := session.execute(query).fetchone()) is not None:
            update = "UPDATE peer_job SET done = true, version = version + 1 WHERE id = %s AND version = %s"
            if session.execute(update, job).rowcount == 0:
                raise ConcurrentModification(f"job {job[0]} is not at version {job[1]} any more")
    return 0


def publish(url: str, number: int) -> None:
    """Send the job of an order, now, and wait for the broker's confirm."""
    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        virtual_host=unquote(parts.path[1:]) or "/",
        confirm_publish=True,
        connect_timeout=5,
        read_timeout=10,
        write_timeout=10,
    )
    connection.connect()
    message = amqp.Message(json.dumps({"order": number}), delivery_mode=2)
    connection.channel().basic_publish(message, "outbox", KIND)
    connection.close()


def shop(way: str, first: str, count: str, end: str) -> int:
    """Take orders, each in a process of its own that is killed right after its COMMIT, or lives."""
    url = make_url(os.environ["DSN"]).set(drivername="postgresql+psycopg")
    engine = create_engine(url)  # it connects in the children alone
    for number in range(int(first), int(first) + int(count)):
        child = os.fork()
        if child == 0:
            order(engine, way, number, killed=end == "killed")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    return 0


def order(engine: Engine, way: str, number: int, *, killed: bool) -> None:
    """Commit an order, and its job in the transaction (``outbox``) or after it (``hook``)."""
    with Session(engine) as session:
        if killed:
            event.listen(session, "after_commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        session.execute(text("INSERT INTO orders VALUES (:id)"), {"id": number})
        if way == "outbox":
            outbox.add(session, KIND, {"order": number})
        else:
            event.listen(session, "after_commit", lambda _: publish(os.environ["BROKER_URL"], number))
        session.commit()


class Daemon:
    """Takes an advisory lock, remembers that it has it, and does not look again.

    Args:
        database: with the table ``peer_job``.
        outside: gets the number of each job that it does: an effect that no rollback takes back.
        meet: called between reading a job and doing it.
    """

    def __init__(self, database: Database, outside: list[int], meet: Callable[[], object]) -> None:
        self.has_lock = False
        self._database, self._outside, self.meet = database, outside, meet
        self._session: psycopg.Connection[Any] | None = None

    def turn(self) -> int:
        """Try for the lock unless it has it; with it, do the next job; return how many rows it could mark."""
        self.has_lock = self.has_lock or self._locked()
        return self._work() if self.has_lock else 0

    def close(self) -> None:
        """End the session of the lock."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _locked(self) -> bool:
        try:
            self._session = self._session or self._database.connect()
            return self._session.execute("SELECT pg_try_advisory_lock(3789)").fetchone() == (True,)
        except psycopg.OperationalError:  # the server was restarted: with a new session it works again
            self.close()
            return self._locked()

    def _work(self) -> int:
        with self._database.connect() as session:
            (number,) = session.execute("SELECT min(id) FROM peer_job WHERE NOT done").fetchone() or (None,)
            self.meet()
            self._outside.append(number)
            return session.execute(
                "UPDATE peer_job SET done = true WHERE id = %s AND NOT done", (number,)
            ).rowcount


def mutex(name: str, seconds: str, *command: str) -> int:
    """Run a command under a key in Redis that has a time to live, and that a ``finally`` deletes."""
    client, key = redis.Redis.from_url(os.environ["REDIS_URL"]), f"lock:cron:{name}"
    if not client.set(key, 1, nx=True, px=int(float(seconds) * 1000)):
        sys.stderr.write(f"{name} is locked\n")
        return 1
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        client.delete(key)


if __name__ == "__main__":
    program = {"migrate": migrate, "serve": serve, "shop": shop, "mutex": mutex}[sys.argv[1]]
    sys.exit(program(*sys.argv[2:]))  # type: ignore[operator]
