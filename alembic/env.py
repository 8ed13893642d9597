"""Alembic's entry. Everything that matters (the lock, the guards) is in ``relay.migrations``, where both commands share it."""

from __future__ import annotations

from alembic import context

from relay import migrations

migrations.run(context)
