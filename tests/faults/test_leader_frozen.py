"""The leader stands still for longer than it may: another one leads, and its late words have no effect."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from faults.load import Load, Shape

if TYPE_CHECKING:
    from databases import Database
    from faults.fleet import Leader
    from faults.pipeline import Pipeline

WINDOW = 1000


@pytest.mark.parametrize(
    ("heartbeat", "stale", "frozen"), [(0.2, 4.0, 7.0), pytest.param(1.0, 8.0, 30.0, marks=pytest.mark.long)]
)
def test_a_frozen_leader_is_replaced_and_marks_nothing_afterwards(
    heartbeat: float, stale: float, frozen: float, pipeline: Pipeline
) -> None:
    pipeline.fleet.start(2, "--heartbeat", str(heartbeat), "--stale", str(stale))
    with Load(pipeline.database, Shape(rate=500)) as load:
        old = pipeline.fleet.wait_leader()
        pipeline.fleet.wait_standbys()
        load.burst(5000)
        pipeline.collector.wait_count(1000)
        old.process.stop()  # with a full window on its way
        frozen_at = time.time()
        new = pipeline.fleet.wait_leader(after=old.term, timeout=stale + 20)
        # It stands still for its time, however early another one leads.
        threading.Event().wait(frozen_at + frozen - time.time())
        before = len(pipeline.collector.deliveries)
        old.process.cont()
        old.process.wait_event("leadership_given_up", term=old.term)
        load.wait_committed(500)
    pipeline.settle(load.account)

    late = [delivery for delivery in pipeline.collector.deliveries[before:] if delivery.term == old.term]
    pipeline.figures.say(f"messages of the old leader after it had stood still: {len(late)}")
    assert len(late) <= WINDOW
    assert marked_late(pipeline.database, old, new) == 0
    assert pipeline.database.value("SELECT max(published_term) FROM outbox.job") == new.term
    pipeline.figures.within(stale + 1, [new.since - frozen_at], "another one leads")
    assert old.process.running


def marked_late(database: Database, old: Leader, new: Leader) -> int:
    """Count the rows that the old leader marked after the new one's term had begun."""
    return int(
        database.value(
            """SELECT count(*) FROM outbox.job j, outbox.leader l
               WHERE l.term = %s AND j.published_term = %s AND j.published_at > l.since""",
            new.term,
            old.term,
        )
    )
