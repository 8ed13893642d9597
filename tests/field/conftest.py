"""Fixtures of the field's faults: our way of a job, our migrations, and the peers' programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.collector import Collector
from faults.fleet import Fleet
from faults.pipeline import Pipeline
from releases import Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Process, Processes

PEERS = Path(__file__).with_name("peers.py")


@pytest.fixture
def pipeline(processes: Processes, database: Database, amqp_url: str, figures: Figures) -> Iterator[Pipeline]:
    """A way for jobs on the shared servers; no relay is started yet."""
    fleet = Fleet(processes, database.dsn, amqp_url)
    with Collector(amqp_url) as collector:
        yield Pipeline(database, amqp_url, fleet, collector, figures)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Return the release after this one."""
    return Release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def peer(processes: Processes) -> Callable[..., Process]:
    """Return what starts a peer's program on a database: ``peer(database, "migrate")``."""

    def start(database: Database, *words: str, **env: str) -> Process:
        return processes.start(sys.executable, PEERS, *words, env={"DSN": database.dsn, **env})

    return start
