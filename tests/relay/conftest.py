"""What tests of the service have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from operating import Jobs
from replicas import Replica

from relay import cli, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result
    from databases import Database
    from servers import Servers


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
