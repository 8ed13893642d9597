"""Fixtures of the fault tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.collector import Collector
from faults.fleet import Fleet
from faults.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes


@pytest.fixture
def pipeline(processes: Processes, database: Database, amqp_url: str, figures: Figures) -> Iterator[Pipeline]:
    """A way for jobs on the shared servers; no relay is started yet."""
    fleet = Fleet(processes, database.dsn, amqp_url)
    with Collector(amqp_url) as collector:
        yield Pipeline(database, amqp_url, fleet, collector, figures)
