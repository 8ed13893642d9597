"""The consumer's guarantees, broken: a rule, the code that keeps it, and the test that holds it."""

from __future__ import annotations

from mutation import Mutant

CONSUMER = (
    Mutant(
        "an ack on another connection than the delivery's",
        "outbox/consumer/subscription.py",
        "received.generation == self.generation",
        "self.generation",
        "tests/faults/test_consumer_broker.py::test_an_ack_for_an_old_connection_is_never_sent_on_a_new_one",
    ),
    Mutant(
        "deliveries of an old connection are not forgotten",
        "outbox/consumer/dispatcher.py",
        "delivery.lease is not None or delivery.generation == self._generation",
        "delivery is not None",
        "tests/outbox/test_dispatcher.py::test_a_new_connection_forgets_what_will_come_again",
    ),
    Mutant(
        "a question to the broker without a deadline",
        "outbox/consumer/subscription.py",
        "[late]) if within else None",
        "[late]) if within == 0 else None",
        "tests/faults/test_consumer_broker.py::test_a_broker_that_never_answers_but_sends_heartbeats_is_left",
    ),
    Mutant(
        "a body decoded by py-amqp",
        "outbox/consumer/subscription.py",
        "self._channel.auto_decode = False",
        "self._channel.auto_decode = True",
        "tests/outbox/test_consumer.py::test_bytes_arrive_as_they_were_sent",
    ),
    Mutant(
        "a refusal that is written down once the rights are back",
        "outbox/runner/desk.py",
        "if decision.refused and remedy(error) is not None:",
        "if decision.refused and remedy(error) is None:",
        "tests/outbox/test_consumer_role.py::test_rights_that_are_taken_away_under_a_handler_cost_no_attempt",
    ),
    Mutant(
        "what is kept keeps a consumer awake that has no database",
        "outbox/consumer/__init__.py",
        "        if self._gate.open:\n            return",
        "        if self._gate:\n            return",
        "tests/faults/test_consumer_database.py::test_without_a_database_a_consumer_rests_whatever_it_keeps",
    ),
    Mutant(
        "an ack after a lock time-out",
        "outbox/runner/desk.py",
        "return Keep(_wait(delivery.strikes), reason, database_lost=lost, refused=lost and refused)",
        "return Ack()",
        "tests/outbox/test_desk.py::test_a_passing_fault_costs_nothing_until_the_tenth",
    ),
    Mutant(
        "a consumer gives a message back in order to wait",
        "outbox/consumer/__init__.py",
        "            if isinstance(verdict, Ack):\n",
        "            if isinstance(verdict, Keep) and subscription is not None:\n"
        "                subscription._channel.basic_reject(delivery.tag, True)\n"
        "            if isinstance(verdict, Ack):\n",
        "tests/faults/test_consumer_database.py::test_jobs_wait_for_the_database_and_pay_nothing",
    ),
    Mutant(
        "an adoption that takes no heed of a conflict",
        "outbox/adoption.py",
        "insert(job).values(row).on_conflict_do_nothing().returning(job.c.id)",
        "insert(job).values(row).returning(job.c.id)",
        "tests/outbox/test_adopt.py::test_a_copy_that_was_adopted_meanwhile_rolls_this_one_back",
    ),
    Mutant(
        "an ack without a commit",
        "outbox/runner/transactional.py",
        "        if isinstance(result, Applied):\n            work.commit()\n",
        "",
        "tests/outbox/test_transactional.py::test_completion_and_writes_are_one_commit",
    ),
    Mutant(
        "a completion that compares no version",
        "outbox/runner/claims.py",
        'job.c.version == bindparam("seen"),',
        'job.c.version >= bindparam("seen"),',
        "tests/outbox/test_transactional.py::"
        "test_a_job_that_was_sent_again_meanwhile_is_left_to_its_later_version",
    ),
    Mutant(
        "no claim before the handler",
        "outbox/runner/desk.py",
        "if not claim(work.connection, delivery, self.by):",
        "if not claim(work.connection, delivery, self.by) and not self:",
        "tests/outbox/test_transactional.py::test_two_copies_at_once_are_one_at_a_time",
    ),
    Mutant(
        "a handler's commit commits",
        "outbox/joined.py",
        '"join_transaction_mode": "rollback_only"',
        '"join_transaction_mode": "control_fully"',
        "tests/outbox/test_joined.py::test_a_handlers_commit_does_not_commit",
    ),
    Mutant(
        "a handler that rolls back is not told",
        "outbox/joined.py",
        "if self._rolled_back or not self._transaction.is_active:",
        "if self._rolled_back and not self.connection:",
        "tests/outbox/test_joined.py::test_nothing_can_be_written_after_a_rollback",
    ),
    Mutant(
        "the application's isolation level",
        "outbox/joined.py",
        'self._options = {"isolation_level": READ_COMMITTED}',
        "self._options = {}",
        "tests/outbox/test_joined.py::test_the_applications_isolation_level_does_not_matter",
    ),
    Mutant(
        "a fault of the surroundings costs an attempt",
        "outbox/runner/desk.py",
        "if passing(error):",
        "if passing(error) and not self:",
        "tests/outbox/test_desk.py::test_a_passing_fault_costs_nothing_until_the_tenth",
    ),
    Mutant(
        "handlers start while the database is away",
        "outbox/consumer/__init__.py",
        "if isinstance(verdict, Keep) and verdict.database_lost:",
        "if isinstance(verdict, Keep) and verdict.database_lost and not self:",
        "tests/faults/test_consumer_database.py::test_jobs_wait_for_the_database_and_pay_nothing",
    ),
    Mutant(
        "a job that comes back pays nothing",
        "outbox/runner/__init__.py",
        "delivery.charged = charge_before(work.connection, held)",
        "delivery.charged = held is None",
        "tests/outbox/test_runner.py::test_a_message_that_came_back_runs_alone_and_pays_first",
    ),
    Mutant(
        "a job that comes back runs beside others",
        "outbox/consumer/dispatcher.py",
        "if self._alone and self._free and self._quiet(now):",
        "if self._alone and self._free:",
        "tests/outbox/test_dispatcher.py::test_what_came_back_is_looked_at_beside_others_and_runs_alone",
    ),
    Mutant(
        "the second of two adopted copies commits",
        "outbox/runner/claims.py",
        "        if not born(connection, row):\n            return AlreadyApplied(1)\n",
        "        born(connection, row)\n",
        "tests/outbox/test_adopt.py::test_a_copy_that_was_adopted_meanwhile_rolls_this_one_back",
    ),
    Mutant(
        "a lease without its token",
        "outbox/leased.py",
        "statement.where(job.c.lease_token == self.token)",
        "statement",
        "tests/outbox/test_leasing.py::test_the_same_version_under_another_token_is_not_ours",
    ),
    Mutant(
        "a lease that is not renewed",
        "outbox/runner/renewals.py",
        "self._call(lease.renew)",
        "self._call(lambda: None)",
        "tests/outbox/test_leasing.py::test_a_lease_is_renewed_while_the_handler_works",
    ),
    Mutant(
        "two queues for one kind of job",
        "outbox/consumer/takers.py",
        "taker.c.queue != queue)",
        "taker.c.queue == None)",
        "tests/outbox/test_consumer_ends.py::test_a_second_queue_for_a_kind_of_job_is_refused",
    ),
    Mutant(
        "a finished row is scheduled by a message of a lost history",
        "outbox/runner/claims.py",
        "if row.version < known and row.state not in FINAL:",
        "if row.version < known:",
        "tests/outbox/test_transactional.py::"
        "test_a_finished_row_is_not_raised_from_the_dead_by_a_lost_history",
    ),
    Mutant(
        "a Redis that forgot the bindings is not reminded",
        "outbox/consumer/bindings.py",
        "self._declared_at >= REMIND_EVERY",
        "self._declared_at < 0",
        "tests/outbox/test_transports.py::test_a_server_that_forgot_the_bindings_is_told_them_again",
    ),
)
