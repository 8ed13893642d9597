"""Alembic's entry. What matters, the lock and the guards, is in ``relay.revisions``."""

from __future__ import annotations

from alembic import context

from relay import revisions

revisions.run(context)
