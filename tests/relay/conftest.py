"""What tests of the service have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest
from click.testing import CliRunner
from desk import Desk
from operating import Jobs
from relays import Line, election, leading, line, settings
from replicas import Replica
from senders import Sender

from relay import cli, keys, reader, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result
    from databases import Database
    from servers import Servers

    from outbox.events import Event
    from relay.leader import Election
    from relay.term import Term


SHOP = """
import os
import outbox
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

Session = sessionmaker(create_engine(os.environ["OUTBOX_DATABASE_URL"]))
handlers = outbox.Handlers({queue!r}, session=Session)
something = 7


@handlers("order.paid")
def paid(job, session):
    pass
"""


@pytest.fixture
def outbox(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command in this process, on ``database``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTBOX_DATABASE_URL", database.dsn)
    return lambda *arguments: CliRunner().invoke(
        cli.cli, [str(word) for word in arguments], prog_name="outbox"
    )


@pytest.fixture
def jobs(database: Database) -> Jobs:
    """Put jobs into ``database``."""
    return Jobs(database)


@pytest.fixture
def replica_url(servers: Servers, own_postgres: sandbox.Postgres, tmp_path: Path) -> Iterator[str]:
    """Return the address of a hot standby of ``own_postgres``."""

    def start() -> Replica:
        replica = Replica(tmp_path / "replica", own_postgres)
        replica.start()
        return replica

    for replica in servers.first("replica", "auto", [("binary", start)]):
        yield replica.url


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an application that has handlers."""
    (tmp_path / "shop.py").write_text(SHOP.format(queue="receipts"))
    return tmp_path


@pytest.fixture
def look(amqp_url: str) -> Iterator[Line]:
    """A connection to the test's virtual host."""
    with line(amqp_url) as opened:
        yield opened


@pytest.fixture
def senders(amqp_url: str, term: Term) -> Iterator[Callable[..., Sender]]:
    """Open publishers; drop them at the end."""
    made: list[Sender] = []

    def make(url: str = amqp_url, **options: Any) -> Sender:
        made.append(Sender(url, term, **options))
        return made[-1]

    yield make
    for each in made:
        each.publisher.drop()


@pytest.fixture
def inner(amqp_url: str) -> str:
    """Return the name of an exchange into which no client may publish."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel().exchange_declare("inner", "topic", durable=True, internal=True)
    connection.close()
    return "inner"


@pytest.fixture
def term(database: Database) -> Iterator[Term]:
    """A term of ``database``."""
    with leading(database) as won:
        yield won


@pytest.fixture
def candidates(database: Database) -> Iterator[Callable[..., Election]]:
    """Make candidates for ``database``; close their sessions at the end."""
    made: list[Election] = []

    def make(seen: list[Event] | None = None, digest: str = "same", **changes: Any) -> Election:
        made.append(election(settings(database, **changes), seen, digest))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def win() -> Iterator[Callable[[Election], Term]]:
    """Have candidates win; end their terms at the end."""
    won: list[Term] = []

    def campaign(candidate: Election) -> Term:
        term = candidate.campaign()
        assert term is not None
        won.append(term)
        return term

    yield campaign
    for term in won:
        term.backend.close()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the reader walk to the end in one read, and fill the window, however busy the machine is."""
    monkeypatch.setattr(keys, "SLOW", 60.0)
    monkeypatch.setattr(reader, "FIRST_GULP", reader.LAST)


@pytest.fixture
def walk_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock to turn by hand: walks come when a test says so."""
    seconds = [1000.0]
    monkeypatch.setattr(keys, "clock", lambda: seconds[0])
    return seconds


@pytest.fixture
def desk(database: Database, term: Term) -> Desk:
    """Return a reader with its window, and no broker."""
    return Desk(database, term)
