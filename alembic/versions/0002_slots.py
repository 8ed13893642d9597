"""Slots: what a schedule has fired, and what `outbox cron run` has run.

Only adds: release N-1 does not know the table and misses nothing.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The primary key is the promise: whoever inserts a slot's row first does its work, and there is no second.
SLOT = """
CREATE TABLE outbox.slot (
    schedule text        NOT NULL,
    -- The instant that the expression names, never the one at which somebody looked; the epoch: first seen.
    slot_at  timestamptz NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    by       text        NOT NULL,
    CONSTRAINT slot_pkey PRIMARY KEY (schedule, slot_at),
    CONSTRAINT slot_named CHECK (schedule <> ''),
    CONSTRAINT slot_in_time CHECK (slot_at >= '1970-01-01 UTC' AND slot_at < '9999-01-01 UTC')
)
"""

# For pruning: the old ones, whatever their schedule.
INDEX = "CREATE INDEX slot_old ON outbox.slot (slot_at)"


def upgrade() -> None:
    """Add the table."""
    op.execute(SLOT)
    op.execute(INDEX)
    op.execute("UPDATE outbox.meta SET revision = '0002'")


def downgrade() -> None:
    """Drop it: a schedule that comes back later starts afresh."""
    op.execute("DROP TABLE outbox.slot")
    op.execute("UPDATE outbox.meta SET revision = '0001'")
