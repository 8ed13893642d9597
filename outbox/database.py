"""What is ours in a database: a schema, the table of its revision, the numbers of the advisory locks.

Beside the models, so that who speaks SQL of their own (the relay, the command line) does not load SQLAlchemy:
a quarter of a second of each start.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = "outbox"
VERSION_TABLE: Final = "alembic_version"
CHANNEL: Final = "outbox"

# Advisory locks of ours live in the (int, int) space, under this class ("outb" in ASCII); consumers' claims
# live in the bigint space. The two never meet in PostgreSQL.
LOCK_CLASS: Final = 0x6F757462
LOCK_LEADER: Final = 1
LOCK_DOORBELL: Final = 2
LOCK_READY: Final = 3
LOCK_MIGRATE: Final = 4
