"""Alembic's entry. What matters, the lock and the guards, is in ``relay.migrations.revisions``."""

from __future__ import annotations

from alembic import context

from relay.migrations import revisions

revisions.run(context)
