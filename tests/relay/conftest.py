"""What tests of the service have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from operating import Jobs

from relay import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result
    from databases import Database


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
