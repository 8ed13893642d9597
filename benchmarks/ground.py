"""The ground that every benchmark stands on: private servers, a database, an exchange, one quorum queue."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import kombu
import psycopg

from relay import migrations, sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

EXCHANGE: Final = "outbox"
KIND: Final = "bench.done"
SIZE: Final = 1000
"""Bytes of payload."""

FILL: Final = """
INSERT INTO outbox.job (id, kind, key, payload)
SELECT gen_random_uuid(), %(kind)s, CASE WHEN %(keys)s > 0 THEN 'key:' || (n %% greatest(%(keys)s, 1)) END,
       convert_to(repeat('x', %(size)s), 'UTF8')
FROM generate_series(1, %(jobs)s) n
"""


@dataclass(frozen=True)
class Ground:
    """Where a benchmark runs.

    Args:
        database_url: of a database with our schema.
        broker_url: of RabbitMQ.
        told: which servers these are, for people.
    """

    database_url: str
    broker_url: str
    told: str

    def fill(self, jobs: int, *, keys: int = 0) -> None:
        """Commit jobs in one transaction.

        Args:
            jobs: how many.
            keys: over how many keys; 0 for none.
        """
        with psycopg.connect(self.database_url) as connection:
            connection.execute(FILL, {"kind": KIND, "keys": keys, "size": SIZE, "jobs": jobs})

    def waiting(self) -> int:
        """Return how many jobs are not published yet."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute("SELECT count(*) FROM outbox.job WHERE state = 'pending'").fetchone()
        return int(found[0]) if found else 0

    def clear(self) -> None:
        """Leave no job and no message."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("TRUNCATE outbox.job, outbox.transition")
            connection.execute("VACUUM outbox.leader")
        with kombu.Connection(self.broker_url) as connection:
            channel = connection.channel()
            exchange = kombu.Exchange(EXCHANGE, "topic", durable=True)
            # What consumers declare, and what flushes before it confirms.
            queue = kombu.Queue(
                "bench", exchange, routing_key="#", queue_arguments={"x-queue-type": "quorum"}
            )(channel)
            queue.declare()
            queue.purge()


@contextmanager
def prepared() -> Iterator[Ground]:
    """Start servers of our own, and stop them.

    Raises:
        sandbox.Unavailable: one of them is not to be had here.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        # As in production: the barrier before each window really flushes.
        sandbox.postgres(Path(folder) / "postgres", settings={"fsync": "on"}) as postgres,
        sandbox.rabbitmq(Path(folder) / "rabbitmq") as rabbitmq,
    ):
        migrations.upgrade(postgres.url)
        ground = Ground(postgres.url, rabbitmq.url, f"{postgres.source}; {rabbitmq.source}")
        ground.clear()
        yield ground
