"""Many writers whose transactions overlap in every way: delivered is what was committed, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.load import Load, Shape, log_uniform

if TYPE_CHECKING:
    from faults.pipeline import Pipeline


@pytest.mark.parametrize(
    ("jobs", "at_once", "longest"),
    [(3_000, 10, 1.0), pytest.param(50_000, 50, 5.0, marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
def test_overlapping_transactions_are_delivered_exactly_if_they_commit(
    jobs: int, at_once: int, longest: float, pipeline: Pipeline
) -> None:
    """A late commit lies behind positions that were read long ago: only reading by state finds it."""
    shape = Shape(writers=16, rate=float("inf"), jobs=at_once, hold=log_uniform(0.001, longest), total=jobs)
    pipeline.fleet.start()
    with Load(pipeline.database, shape) as load:
        load.join(240)
    report = pipeline.settle(load.account)
    assert report.committed + report.rolled_back >= jobs
    assert report.messages == report.committed
