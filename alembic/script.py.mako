"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Expand; end with ``UPDATE outbox.meta SET revision = ..., min_reader = ...``.

    An index on a table in use: ``with op.get_context().autocommit_block()``, ``CREATE INDEX CONCURRENTLY IF NOT EXISTS``.
    A killed migration may have built it to the end; one that is half built is dropped before the revision runs again.
    """
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo."""
    ${downgrades if downgrades else "pass"}
