"""What tests of migrations have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from releases import ALEMBIC, Release

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database
    from processes import Process, Processes

    Migrate = Callable[..., Process]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Return the release after this one."""
    return Release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def migrate(processes: Processes, release: Release, database: Database) -> Migrate:
    """Start ``outbox migrate`` of the release after this one on ``database``, which has this one's schema."""

    def start(*arguments: str, env: dict[str, str] | None = None) -> Process:
        address = {"OUTBOX_DATABASE_URL": database.dsn}
        return processes.outbox(
            "migrate", *arguments, env={**release.env, **address, **(env or {})}, cwd=release.folder
        )

    return start


@pytest.fixture
def alembic(processes: Processes, release: Release, database: Database) -> Migrate:
    """Start ``alembic`` in the checkout of the release after this one on ``database``."""

    def start(*arguments: str, env: dict[str, str] | None = None) -> Process:
        address = {"OUTBOX_DATABASE_URL": database.dsn}
        return processes.start(
            ALEMBIC, *arguments, env={**release.env, **address, **(env or {})}, cwd=release.folder
        )

    return start
