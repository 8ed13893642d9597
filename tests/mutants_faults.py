"""The whole pipeline's guarantees, broken: what only real processes, kills and crashes bring to light."""

from __future__ import annotations

from mutation import Mutant

KILLED = "tests/faults/test_leader_killed.py"
FROZEN = "tests/faults/test_leader_frozen.py"
TORTURE = "tests/faults/test_torture.py::test_named_servers_are_tortured_and_left_as_they_were"
OUTAGE = "tests/faults/test_outage_blocked.py"
CONSUMER_BROKER = "tests/faults/test_consumer_broker.py"
CONSUMER_DATABASE = "tests/faults/test_consumer_database.py"
RESET = "tests/faults/test_network_reset.py"
PASSWORD = (
    "tests/faults/test_revoked.py::test_a_role_that_may_not_log_in_any_more_waits_until_it_may[password-3]"
)
REFUSED = (
    "tests/faults/test_revoked_broker.py::test_a_user_that_is_refused_waits_until_it_is_let_in[password-3]"
)

FAULTS = (
    Mutant(
        "a cursor by position, among sixteen writers",
        "relay/reader.py",
        "if clock() >= self._sweep_at:",
        "if not self:",
        "tests/faults/test_writers.py::"
        "test_overlapping_transactions_are_delivered_exactly_if_they_commit[3000-10-1.0]",
    ),
    Mutant(
        "a relay that waits for whoever still writes",
        "relay/ledger.py",
        "AND id <> ALL(%(mine)s)\n        ORDER BY pos",
        "AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND id <> ALL(%(mine)s)\n        ORDER BY pos",
        "tests/faults/test_slow_handler.py::test_nobody_waits_for_a_slow_handler[4.0]",
    ),
    Mutant(
        "a fence that flushes nothing",
        "relay/term.py",
        "SELECT pg_current_xact_id()::text, pg_logical_emit_message(true, 'outbox', '')::text",
        "SELECT '', ''",
        "tests/faults/test_restarts.py::test_nothing_is_published_that_a_crash_may_take_back",
    ),
    Mutant(
        "a stop that does not wait for the last confirms",
        "relay/loop.py",
        "        self._finish(shift)\n",
        "",
        f"{KILLED}::test_a_leader_that_is_asked_to_stop_duplicates_nothing[4]",
    ),
    Mutant(
        "a frozen leader that is given two seconds more",
        "relay/leader.py",
        "silent > self._settings.stale and",
        "silent > self._settings.stale + 2 and",
        f"{FROZEN}::test_a_frozen_leader_is_replaced_and_marks_nothing_afterwards[0.2-4.0-7.0]",
    ),
    Mutant(
        "a broker that hangs up is called again at once",
        "relay/broker.py",
        "FIRST_WAIT if self._was_of_use else self._wait",
        "FIRST_WAIT",
        f"{OUTAGE}::test_a_broker_that_ends_every_connection_is_not_stormed",
    ),
    Mutant(
        "a database that is away counts as a handler's failure",
        "outbox/runner/faults.py",
        "return disconnected(error) if state is None else state.startswith(_PASSING)",
        "return False",
        "tests/faults/test_database_down.py::test_a_database_that_is_away_costs_no_job_anything[6]",
    ),
    Mutant(
        "a mark before the confirm, under torture",
        "relay/window.py",
        "        self._bytes += len(row.payload)\n",
        "        self._bytes += len(row.payload)\n        self._unmarked[row.ident] = row\n",
        TORTURE,
    ),
    Mutant(
        "a handler that commits its effect twice, under torture",
        "relay/torture/work.py",
        """    session.add(Effect(token=job.payload["token"]))
    session.flush()
""",
        """    session.add(Effect(token=job.payload["token"]))
    session.add(Effect(token=job.payload["token"]))
    session.flush()
""",
        TORTURE,
    ),
    Mutant(
        "returned jobs of a queue that is gone are marked, not parked",
        "relay/clerk.py",
        "        self.park(rows, reason)",
        "        self._ledger.mark(rows)",
        "tests/faults/test_parking.py::test_a_queue_that_is_deleted_under_load_costs_no_job",
    ),
    Mutant(
        "what was in flight at a reset counts as confirmed",
        "relay/window.py",
        "        self._flying.clear()\n        self._aside.clear()\n        self.mute",
        "        self._unmarked |= {each.row.ident: each.row for each in self._flying.values()}\n"
        "        self._flying.clear()\n        self._aside.clear()\n        self.mute",
        f"{RESET}::test_a_relay_that_is_reset_at_any_byte[broker-6]",
    ),
    Mutant(
        "what a term before may have sent is repeated without a word",
        "relay/shift.py",
        " or row.pos <= self.term.tip or",
        " or",
        "tests/faults/test_crash_points.py::test_a_relay_that_stops_at_any_point_loses_nothing[P5-SIGKILL]",
    ),
    Mutant(
        "an ack without a proof, whatever the database said",
        "outbox/runner/__init__.py",
        "verdict = _unproven(error)",
        "verdict = Ack()",
        f"{RESET}::test_a_consumer_that_is_reset_at_any_byte[database-6]",
    ),
    Mutant(
        "a broker whose heartbeats nobody misses",
        "outbox/consumer/subscription.py",
        "self._transport.heartbeat_check(self._connection)",
        "pass",
        f"{CONSUMER_BROKER}::test_a_silent_broker_is_noticed_and_left[stall_replies]",
    ),
    Mutant(
        "a queue that is deleted, and nobody minds",
        "outbox/consumer/subscription.py",
        "callback=self._take, consumer_tag=self._tag\n",
        "callback=self._take, consumer_tag=self._tag, on_cancel=lambda _: None\n",
        f"{CONSUMER_BROKER}::test_a_queue_that_is_deleted_is_declared_again",
    ),
    Mutant(
        "a channel that the broker closes ends the consumer",
        "outbox/consumer/subscription.py",
        "(*transport.connection_errors, *transport.channel_errors, OSError, AttributeError)",
        "(*transport.connection_errors, OSError, AttributeError)",
        f"{CONSUMER_BROKER}::test_a_channel_that_the_broker_closes_for_a_slow_handler",
    ),
    Mutant(
        "a copy that comes back is charged beside its handler",
        "outbox/runner/__init__.py",
        """            held = self._desk.take(work, delivery, handler)
            if isinstance(held, Ack | Keep):
                return held
            if isinstance(held, Row) and held.attempt < held.max_attempts:
                if not alone:
                    return Alone()
""",
        """            from outbox.runner.claims import look

            held = look(work.connection, delivery, handler)
            if isinstance(held, Row) and held.attempt < held.max_attempts:
""",
        f"{CONSUMER_BROKER}::test_nothing_of_the_slow_path_charges_a_job_for_a_flapping_broker",
    ),
    Mutant(
        "a consumer that starts before its database ends",
        "outbox/consumer/registration.py",
        "if refused or not (unreachable(error) or passing(error)):",
        "if error:",
        f"{CONSUMER_DATABASE}::test_a_database_that_is_not_there_yet_is_waited_for",
    ),
    Mutant(
        "a lease that ends with a short outage",
        "outbox/runner/faults.py",
        "return disconnected(error) if state is None else state.startswith(_PASSING)",
        "return False",
        f"{CONSUMER_DATABASE}::test_a_lease_outlives_a_short_outage",
    ),
    Mutant(
        "a message that is acked as it comes",
        "outbox/consumer/subscription.py",
        "        self._on_delivery(understood(message, amqp=self._amqp, queue=self._queue, "
        "generation=self.generation))\n",
        "        it = understood(message, amqp=self._amqp, queue=self._queue, generation=self.generation)\n"
        "        self.ack(it)\n        self._on_delivery(it)\n",
        f"{RESET}::test_a_consumer_that_is_reset_at_any_byte[broker-6]",
    ),
    Mutant(
        "a relay that storms the database that refuses it",
        "relay/loop.py",
        "        self._wait = min(LONGEST_WAIT, self._wait * 2)\n",
        "",
        PASSWORD,
    ),
    Mutant(
        "a relay that tells the database's address with its password",
        "relay/backend.py",
        'raise Unreachable(f"PostgreSQL: {one_line(error)}") from None',
        'raise Unreachable(f"PostgreSQL: {dsn}: {one_line(error)}") from None',
        PASSWORD,
    ),
    Mutant(
        "a consumer that tells the broker's address with its password",
        "outbox/consumer/refusals.py",
        'return _LOGIN.sub(r"\\1:***@", url).partition("?")[0]',
        'return url.partition("?")[0]',
        REFUSED,
    ),
    Mutant(
        "a consumer that ends because its login is refused for a while",
        "outbox/consumer/__init__.py",
        "            if self._subscribed_before:\n                raise Gone(str(error)) from None\n",
        "",
        REFUSED,
    ),
    Mutant(
        "a leader that believes the host's clock on the wall",
        "relay/term.py",
        'time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()',
        "time.time()",
        "tests/faults/test_clocks.py::test_a_host_whose_clock_jumps_deposes_nobody_and_loses_no_lease[1]",
    ),
    Mutant(
        "a full disk is the handler's fault",
        "outbox/runner/faults.py",
        '_PASSING: Final = ("08", "53", ',
        '_PASSING: Final = ("08", "53300", ',
        "tests/faults/test_disk_full.py::test_a_full_disk_of_the_database_loses_nothing[data-3]",
    ),
    Mutant(
        "a relay that storms a database without connections",
        "relay/loop.py",
        "        self._wait = min(LONGEST_WAIT, self._wait * 2)\n",
        "",
        "tests/faults/test_connections.py::"
        "test_a_server_without_connections_keeps_its_leader_and_lets_others_wait[2]",
    ),
    Mutant(
        "a relay that knows one node of a cluster",
        "relay/broker.py",
        "itertools.cycle(transports.listed(url))",
        "itertools.cycle(transports.listed(url)[:1])",
        "tests/faults/test_cluster.py::test_the_node_that_the_relay_is_connected_to_dies",
    ),
    Mutant(
        "a fence that trusts the number of a term, which a failover rolls back",
        "relay/term.py",
        'FROM outbox.leader WHERE token = %(token)s\n"""\n\n\n# Which',
        'FROM outbox.leader WHERE %(token)s IS NOT NULL\n"""\n\n\n# Which',
        "tests/faults/test_failover.py::"
        "test_a_failover_that_loses_the_tail_loses_nothing_of_what_is_left[100]",
    ),
    Mutant(
        "a relay without rights that goes on and on",
        "relay/backend.py",
        'NOT_ALLOWED: Final = ("3D", "3F", "42")',
        'NOT_ALLOWED: Final = ("3D", "3F")',
        "tests/faults/test_revoked.py::"
        "test_rights_on_tables_that_are_taken_away_end_a_relay_and_let_a_consumer_wait[2]",
    ),
)
