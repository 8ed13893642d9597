"""The database, the exchange and the queues that a torture makes, and deletes: nothing else is touched.

The one module of the torture that speaks to a broker by itself.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from kombu.connection import Connection
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from outbox.errors import Unreachable, WrongEnvironment
from relay import migrations, urls
from relay.theatre import wiretap
from relay.torture.work import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT: Final = 5


def name() -> str:
    """Return a name that nobody else has, for all that is made."""
    return f"outbox_torture_{secrets.token_hex(4)}"


def wiretap_queue(scratch: str) -> str:
    """Return the name of the wiretap's queue."""
    return f"{scratch}.wiretap"


@contextmanager
def database(url: str, scratch: str) -> Iterator[str]:
    """Make a database with our schema and the application's table, and drop it at the end.

    Args:
        url: of a server, by any of its databases.
        scratch: the name.

    Yields:
        Its URL.

    Raises:
        WrongEnvironment: the role may not create databases.
        Unreachable: the server does not answer, or does not let us in.
    """
    identifier = sql.Identifier(scratch)
    try:
        _create(url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        made = make_url(urls.database(url)).set(database=scratch).render_as_string(hide_password=False)
        migrations.upgrade(made)
        engine = create_engine(urls.sqlalchemy(made))
        Base.metadata.create_all(engine)
        engine.dispose()
        yield made
    finally:
        with suppress(psycopg.OperationalError):  # a server of ours may be dead by now, and goes as a whole
            _administer(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


@contextmanager
def queues(url: str, scratch: str) -> Iterator[None]:
    """Declare the exchange and the wiretap's queue; delete them, and the consumers' queue, at the end.

    Args:
        url: of the broker.
        scratch: the name of exchange and queue.

    Raises:
        Unreachable: the broker does not answer, or does not let us in.
    """
    try:
        wiretap.declare(url, scratch, wiretap_queue(scratch))
    except Exception as error:
        raise Unreachable(f"the broker: {error}") from error
    try:
        yield
    finally:
        with suppress(Exception):  # a server of ours may be dead by now, and goes as a whole
            _delete(url, scratch)


def forget_everything(url: str) -> None:
    """FLUSHALL: what a Redis does that was restarted without its file."""
    with Connection(url, connect_timeout=CONNECT) as connection:
        connection.channel().client.flushall()


def _create(url: str, statement: sql.Composed) -> None:
    try:
        _administer(url, statement)
    except psycopg.errors.InsufficientPrivilege:
        raise WrongEnvironment(
            "the torture makes a database of its own, and this role may not: ALTER ROLE … CREATEDB"
        ) from None
    except psycopg.OperationalError as error:
        raise Unreachable(f"the database: {error}") from None


def _administer(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(urls.database(url), autocommit=True, connect_timeout=CONNECT) as connection:
        connection.execute(statement)


def _delete(url: str, scratch: str) -> None:
    with Connection(url, connect_timeout=CONNECT) as connection:
        channel = connection.channel()
        if hasattr(channel, "client"):
            _delete_keys(channel.client, scratch)
            return
        for queue in (scratch, wiretap_queue(scratch)):
            channel.queue_delete(queue)
        channel.exchange_delete(scratch)


def _delete_keys(client: Any, scratch: str) -> None:
    """Delete what kombu keeps in a Redis: lists, bindings, and what killed consumers had in hand."""
    for key in client.scan_iter(match=f"*{scratch}*"):
        client.delete(key)
    for tag, held in client.hscan_iter("unacked"):
        if json.loads(held)[1] == scratch or json.loads(held)[2].startswith(scratch):
            client.hdel("unacked", tag)
            client.zrem("unacked_index", tag)
