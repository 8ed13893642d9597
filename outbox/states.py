"""The states of a job and every transition between them, as data.

The trigger in the database holds the same table, so that psql cannot do what the code cannot; a test compares
both. This module decides nothing and touches no database.

The publish mark (pending → published) and redelivery (published → pending) keep the version: a message can
overtake
its own mark, and a consumer may hold the next version when the mark arrives. All else adds one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job stands. The values are those of the column ``outbox.job.state``."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    PARKED = "parked"
    PUBLISHED = "published"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


WAITING: Final = frozenset({State.SCHEDULED, State.PENDING, State.PARKED})
"""Not with a broker yet. ``add_unique`` counts these."""

FINAL: Final = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})
"""Nothing happens any more unless an operator asks. An event is final when it is published."""

INSERTABLE: Final = frozenset(
    {State.PENDING, State.SCHEDULED, State.RUNNING, State.SUCCEEDED, State.DEAD},
)
"""An application inserts pending or scheduled; a consumer that adopts a message inserts the others."""

_S = State
SAME_VERSION: Final = frozenset(
    {
        (_S.PENDING, _S.PUBLISHED),  # leader, after the broker's confirm
        (_S.PUBLISHED, _S.PENDING),  # leader, redelivering: any copy may do the work
    },
)

NEXT_VERSION: Final = frozenset(
    {
        (_S.SCHEDULED, _S.PENDING),  # leader, when due
        (_S.PENDING, _S.PARKED),  # leader, destination down
        (_S.PARKED, _S.PENDING),  # leader, a probe got through
        (_S.PENDING, _S.RUNNING),  # consumer, leased; the message overtook its mark
        (_S.PUBLISHED, _S.RUNNING),
        (_S.PENDING, _S.SUCCEEDED),  # consumer, transactional
        (_S.PUBLISHED, _S.SUCCEEDED),
        (_S.RUNNING, _S.SUCCEEDED),
        (_S.RUNNING, _S.DEAD),
        (_S.RUNNING, _S.CANCELLED),
        (_S.RUNNING, _S.SCHEDULED),  # retry, or rescue by the leader
        (_S.PENDING, _S.SCHEDULED),  # retry
        (_S.PUBLISHED, _S.SCHEDULED),  # retry, or an operator's redelivery
        (_S.PENDING, _S.DEAD),  # also the leader: a row that the broker refuses by itself
        (_S.PUBLISHED, _S.DEAD),
        (_S.PENDING, _S.CANCELLED),
        (_S.PUBLISHED, _S.CANCELLED),
        (_S.SCHEDULED, _S.CANCELLED),  # application, operator
        (_S.SCHEDULED, _S.DEAD),
        (_S.PARKED, _S.CANCELLED),
        (_S.PARKED, _S.DEAD),
        (_S.PARKED, _S.SCHEDULED),  # operator's retry
        (_S.SUCCEEDED, _S.SCHEDULED),
        (_S.DEAD, _S.SCHEDULED),
        (_S.CANCELLED, _S.SCHEDULED),
    },
)

TRANSITIONS: Final = SAME_VERSION | NEXT_VERSION


def sources(to: State) -> tuple[State, ...]:
    """Return the states from which ``to`` may be reached with a new version, in the order of the enum."""
    return tuple(state for state in State if (state, to) in NEXT_VERSION)
