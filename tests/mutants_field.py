"""What keeps the field's faults away, broken: then ours loses as its control does."""

from __future__ import annotations

from mutation import Mutant

MASTERS = "tests/field/test_competing_masters.py"
MOVED = f"{MASTERS}::test_a_version_that_moves_under_a_handler_ends_no_consumer"
LOCK_LOST = "tests/field/test_lock_lost.py"
BEFORE_COMMIT = "tests/field/test_job_before_commit.py"
OWN_TRANSACTION = """with __import__("sqlalchemy.orm").orm.Session(session.get_bind()) as own, own.begin():
        own.add(JobRow(id=job_id, **row))"""

FIELD = (
    Mutant(
        "a migration whose statement outlives it",
        "relay/sessions.py",
        '"client_connection_check_interval": "1s"',
        '"client_connection_check_interval": "0"',
        "tests/field/test_migration_lock.py::test_a_migration_that_is_killed_again_and_again_needs_no_hand",
    ),
    Mutant(
        "a leader's lock that many may have",
        "relay/leader.py",
        "SELECT pg_try_advisory_lock(",
        "SELECT pg_try_advisory_lock_shared(",
        f"{MASTERS}::test_of_many_elections_at_once_one_is_won[12-20]",
    ),
    Mutant(
        "many leaders after a restart",
        "relay/leader.py",
        "SELECT pg_try_advisory_lock(",
        "SELECT pg_try_advisory_lock_shared(",
        f"{LOCK_LOST}::test_a_lost_lock_ends_a_term_and_the_next_one_does_not_overlap_it[fast-1]",
    ),
    Mutant(
        "a version that moved ends the consumer",
        "outbox/runner/transactional.py",
        "                    return self._desk.ignored(delivery, result)\n",
        "                    __import__('os')._exit(1)\n",
        MOVED,
    ),
    Mutant(
        "what a handler wrote commits although its version has moved",
        "outbox/runner/transactional.py",
        "        if isinstance(result, Applied):\n            work.commit()\n",
        "        work.commit()\n",
        MOVED,
    ),
    Mutant(
        "a job in a transaction of its own, before it is committed",
        "outbox/jobs.py",
        "session.add(JobRow(id=job_id, **row))",
        OWN_TRANSACTION,
        f"{BEFORE_COMMIT}::test_a_transaction_that_is_open_sends_nothing_and_then_every_row_is_found[2.0]",
    ),
    Mutant(
        "a job in a transaction of its own, before it is rolled back",
        "outbox/jobs.py",
        "session.add(JobRow(id=job_id, **row))",
        OWN_TRANSACTION,
        f"{BEFORE_COMMIT}::test_what_is_rolled_back_is_never_sent",
    ),
)
