"""The guarantees of schedules and single runs, broken."""

from __future__ import annotations

from mutation import Mutant

FIFTY = (
    "tests/faults/test_schedules.py::test_each_slot_is_fired_once_whoever_fires_and_whatever_their_clocks_say"
)
SHORT = f"{FIFTY}[6-6]"
SINGLE = "tests/faults/test_single_runs.py"
NOW = "__import__('datetime').datetime.now(UTC)"

SLOTS = (
    Mutant(
        "the time of the look instead of the slot",
        "outbox/schedules.py",
        '"slot_at": slot, "by"',
        f'"slot_at": {NOW}, "by"',
        SHORT,
    ),
    Mutant(
        "a slot that may be taken twice",
        "outbox/slots.py",
        "VALUES (CAST(:schedule AS text), CAST(:slot_at AS timestamptz), CAST(:by AS text))\n"
        "    ON CONFLICT DO NOTHING",
        "VALUES (CAST(:schedule AS text), CAST(:slot_at AS timestamptz) + random() * interval '1 ms',"
        " CAST(:by AS text))\n    ON CONFLICT DO NOTHING",
        SHORT,
    ),
    Mutant(
        "who comes second fails",
        "outbox/slots.py",
        "ON CONFLICT DO NOTHING RETURNING slot_at)",
        "RETURNING slot_at)",
        "tests/outbox/test_schedules.py::test_who_comes_second_waits_for_the_first[which_committed]",
    ),
    Mutant(
        "the host's clock",
        "outbox/schedules.py",
        "{name: (now, since) for name, now, since in",
        f"{{name: ({NOW}, since) for name, _, since in",
        SHORT,
    ),
    Mutant(
        "a schedule that begins when it is looked at",
        "outbox/slots.py",
        "CASE WHEN s.slot_at = 'epoch' THEN s.at ELSE s.slot_at END",
        "CASE WHEN s.slot_at = 'epoch' THEN clock_timestamp() ELSE s.slot_at END",
        SHORT,
    ),
    Mutant(
        "a slot that is yet to come holds up the schedule",
        "outbox/slots.py",
        "WHERE schedule = n.name AND slot_at <= clock_timestamp()",
        "WHERE schedule = n.name",
        "tests/outbox/test_schedules.py::"
        "test_a_slot_that_was_fired_while_the_clock_was_wrong_holds_up_nothing",
    ),
    Mutant(
        "the last slot is pruned too",
        "outbox/slots.py",
        "AND n.slot_at > s.slot_at\n",
        "AND n.slot_at >= s.slot_at\n",
        "tests/relay/test_scheduler.py::test_old_slots_are_pruned_but_the_last_of_each_schedule",
    ),
    Mutant(
        "newest first",
        "outbox/schedules.py",
        "return [*late, *on_time]",
        "return [*late, *on_time][::-1]",
        "tests/relay/test_scheduler.py::test_many_slots_are_fired_in_slices_oldest_first",
    ),
    Mutant(
        "what is late is made good by a policy that skips",
        "outbox/schedules.py",
        "fresh = max(since, now - ON_TIME)",
        "fresh = since",
        "tests/outbox/test_schedules.py::test_after_an_hour_in_which_nobody_was_there[skip-0]",
    ),
    Mutant(
        "slots counted from where one asks",
        "outbox/cron.py",
        "_WallClock(self._minutes, (after - _MINUTE).astimezone",
        "_WallClock(self._minutes, after.astimezone",
        "tests/outbox/test_cron.py::test_seconds_in_front",
    ),
    Mutant(
        "hours of sixty minutes, also after a clock that moved by thirty",
        "outbox/cron.py",
        "self.tick(3600 - 60 * self.dt.minute - self.dt.second)",
        "self.tick(3600)",
        "tests/outbox/test_cron.py::test_slots_are_those_of_the_clock_on_the_wall",
    ),
    Mutant(
        "a doubled hour asked for in its second half",
        "outbox/cron.py",
        "if after < slot <= upto:",
        "if slot <= upto:",
        "tests/outbox/test_cron.py::"
        "test_in_the_second_half_of_a_doubled_hour_what_the_first_half_had_does_not_come_again",
    ),
    Mutant(
        "a lock that runs out by itself",
        "relay/cli/runs.py",
        "SELECT pg_try_advisory_lock(",
        "SELECT pg_try_advisory_xact_lock(",
        f"{SINGLE}::test_a_long_run_is_not_overtaken_and_the_slot_that_was_skipped_is_not_used_up",
    ),
    Mutant(
        "the time of the start instead of the slot",
        "relay/cli/runs.py",
        "slot = nearest(cron, now)",
        "slot = now",
        f"{SINGLE}::test_of_two_starts_for_each_slot_one_runs[4]",
    ),
    Mutant(
        "a mutex alone",
        "relay/cli/runs.py",
        "ON CONFLICT DO NOTHING RETURNING slot_at",
        "ON CONFLICT (schedule, slot_at) DO UPDATE SET by = excluded.by RETURNING slot_at",
        f"{SINGLE}::test_a_second_start_after_the_first_has_ended_is_told_who_ran",
    ),
    Mutant(
        "a lost lock that nobody notices",
        "relay/cli/child.py",
        "self._turn.prove(ask=ask)",
        "self._turn.fileno()",
        f"{SINGLE}::test_a_lock_that_is_lost_stops_the_command_and_says_why",
    ),
    Mutant(
        "a command that goes on without its runner, and without the lock",
        "relay/cli/child.py",
        "pass_fds=() if socket is None else (socket,)",
        "pass_fds=() if socket is None else ()",
        f"{SINGLE}::test_a_command_that_outlives_its_runner_and_its_keeper_keeps_the_lock",
    ),
    Mutant(
        "a command that outlives its runner",
        "relay/cli/child.py",
        'self._leash.ask("guard", pid=process.pid)',
        "pass",
        f"{SINGLE}::test_a_runner_that_is_killed_leaves_no_command_no_lock_and_nothing_to_clean_up",
    ),
    Mutant(
        "fail open",
        "relay/cli/cron.py",
        "        turn = runs.Turn(settings.dsn, name)\n        taken = turn.take(at)\n",
        "        try:\n            turn = runs.Turn(settings.dsn, name)\n            taken = turn.take(at)\n"
        "        except Exception:\n            sys.exit(__import__('subprocess').call(command))\n",
        f"{SINGLE}::test_a_database_that_is_away_runs_nothing",
    ),
)
