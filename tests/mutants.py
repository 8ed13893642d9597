"""The guarantees' code, broken on purpose: for each mutant there is a test that must go red.

A mutant is a change of a few characters. It is made in a copy of the tree, and one test runs there. A test
that stays green guards nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("outbox", "relay", "alembic", "tests")
FILES = ("pyproject.toml", "alembic.ini", "README.md", "LICENSE")


class Mutant(NamedTuple):
    """What is broken, and who must notice."""

    name: str
    file: str
    old: str
    new: str
    test: str


# Each line: a rule of the design, the code that keeps it, and the test that holds the code to it.
MUTANTS = (
    Mutant(
        "a mark by id alone",
        "relay/ledger.py",
        "WHERE j.id = w.id AND j.version = w.version AND",
        "WHERE j.id = w.id AND",
        "tests/relay/test_ledger_marks.py::test_a_mark_names_the_version",
    ),
    Mutant(
        "a mark before the confirm",
        "relay/window.py",
        "        self._bytes += len(row.payload)\n",
        "        self._bytes += len(row.payload)\n        self._unmarked[row.ident] = row\n",
        "tests/relay/test_shift_rests.py::test_a_relay_rests_while_a_full_queue_rests",
    ),
    Mutant(
        "any ack confirms",
        "relay/window.py",
        "tags = [tag] if tag in self._flying else []",
        "tags = list(self._flying)[:1]",
        "tests/relay/test_publisher.py::test_acks_in_any_order_confirm_their_own_messages",
    ),
    Mutant(
        "basic.return is ignored",
        "relay/window.py",
        "        self._returned[job_id] = reason\n",
        "        del job_id, reason\n",
        "tests/relay/test_publisher.py::test_what_nothing_is_bound_for_is_unroutable_although_it_is_acked",
    ),
    Mutant(
        "a cursor by position: nothing looks behind it",
        "relay/reader.py",
        "if clock() >= self._sweep_at:",
        "if not self:",
        "tests/relay/test_low_water.py::test_a_sweep_finds_what_committed_late",
    ),
    Mutant(
        "a low water that waits for no open transaction",
        "relay/reader.py",
        "if after == self._low and found.xmin > settled_xid:",
        "if after == self._low:",
        "tests/relay/test_low_water.py::test_the_low_water_never_passes_an_open_transaction",
    ),
    Mutant(
        "keyed jobs read behind what is in flight",
        "relay/reader.py",
        "busy=window.keys() if strict else (),",
        "busy=(),",
        "tests/relay/test_reader.py::test_strict_has_one_of_a_key_in_flight",
    ),
    Mutant(
        "what was read and not sent is not read again",
        "relay/reader.py",
        "        self._front = self._low\n        self.look_afresh()",
        "        return",
        "tests/relay/test_reader.py::test_what_was_not_sent_is_read_again_when_told",
    ),
    Mutant(
        "the fence is FOR KEY SHARE",
        "relay/ledger.py",
        "WHERE token = %(token)s FOR SHARE)",
        "WHERE token = %(token)s FOR KEY SHARE)",
        "tests/relay/test_term.py::test_an_open_mark_makes_the_next_term_wait",
    ),
    Mutant(
        "a mark that waits for locked rows",
        "relay/ledger.py",
        'more="AND EXISTS (SELECT FROM f) FOR NO KEY UPDATE SKIP LOCKED"',
        'more="AND EXISTS (SELECT FROM f) FOR NO KEY UPDATE"',
        "tests/relay/test_ledger_marks.py::test_a_mark_waits_for_no_lock_and_tells_locked_from_overtaken",
    ),
    Mutant(
        "a mark without a look at the token",
        "relay/ledger.py",
        'more="AND EXISTS (SELECT FROM f) FOR NO KEY UPDATE SKIP LOCKED"',
        'more="FOR NO KEY UPDATE SKIP LOCKED"',
        "tests/relay/test_term.py::test_nothing_of_an_old_term_changes_a_job",
    ),
    Mutant(
        "sent without trust",
        "relay/publisher.py",
        "    if not term.trusted:\n",
        "    if not term:\n",
        "tests/relay/test_publisher.py::test_without_trust_nothing_is_written",
    ),
    Mutant(
        "trust counted from the beat's answer",
        "relay/term.py",
        "self._beaten, self._deadline = now, now + self._trust",
        "self._beaten, self._deadline = clock(), clock() + self._trust",
        "tests/relay/test_term.py::test_trust_is_counted_from_before_the_beat",
    ),
    Mutant(
        "silence measured by the database's clock",
        "relay/leader.py",
        "silent = now - self._seen_at",
        "silent = __import__('time').time() - found[1].timestamp()",
        "tests/relay/test_deposing.py::test_a_step_of_the_databases_clock_deposes_nobody",
    ),
    Mutant(
        "any holder is ended",
        "relay/leader.py",
        "if not found[6]:",
        "if not found:",
        "tests/relay/test_deposing.py::test_a_stranger_with_our_lock_is_named_and_left_alone",
    ),
    Mutant(
        "a lock that was granted is kept although the term failed",
        "relay/leader.py",
        "            self.close()\n            raise\n",
        "            raise\n",
        "tests/relay/test_leader.py::test_a_failure_after_the_lock_was_granted_keeps_no_lock",
    ),
    Mutant(
        "asleep without the doorbell's lock",
        "relay/shift.py",
        "self._asleep = self.term.fall_asleep()",
        "self._asleep = True",
        "tests/relay/test_loop.py::test_an_idle_relay_hears_every_commit",
    ),
    Mutant(
        "sent again because a mark was put off",
        "relay/shift.py",
        "            return 0  # never republished for it: it stays in memory",
        "            self._window.forget(rows)\n            return 0",
        "tests/relay/test_shift_marks.py::test_a_mark_that_is_put_off_sends_nothing_again",
    ),
    Mutant(
        "what overtook its mark is remembered for ever",
        "relay/shift.py",
        "done = [row for row in rows if row.id not in locked]",
        "done = [row for row in rows if row.id in marked]",
        "tests/relay/test_shift_marks.py::test_a_message_may_overtake_its_mark",
    ),
    Mutant(
        "a probe sent while its job is parked",
        "relay/ledger.py",
        "        found = self._row(STAGE_PROBE, values | self._fence())\n",
        "        found = self._row(STAGE_PROBE, values | self._fence())\n"
        "        found = found and (found[0], found[1] - 1, *found[2:])\n",
        "tests/relay/test_shift.py::test_a_probe_arrives_with_the_version_of_its_row",
    ),
    Mutant(
        "staged at the end of its key's line",
        "relay/chores.py",
        "first_pos = coalesce(j.first_pos, j.pos), pos = DEFAULT\n"
        'FROM d WHERE j.ctid = d.spot RETURNING j.id\n"""\n\nRESCUE',
        'pos = DEFAULT\nFROM d WHERE j.ctid = d.spot RETURNING j.id\n"""\n\nRESCUE',
        "tests/relay/test_chores.py::test_what_is_due_is_staged_with_a_new_position_in_its_old_place",
    ),
    Mutant(
        "redelivered with a new version",
        "relay/chores.py",
        "sends = j.sends + 1,",
        "sends = j.sends + 1, version = j.version + 1,",
        "tests/relay/test_chores.py::test_what_the_broker_lost_is_sent_again_with_the_same_version",
    ),
    Mutant(
        "redelivered although its queue cannot be seen",
        "relay/chores.py",
        "if depths[queue] == 0:",
        "if not depths[queue]:",
        "tests/relay/test_chores.py::test_what_may_wait_in_its_queue_is_not_sent_again[None]",
    ),
    Mutant(
        "redelivered under a handler",
        "relay/chores.py",
        "WHERE pg_try_advisory_xact_lock(hashtextextended(id::text, 0))",
        "WHERE true",
        "tests/relay/test_chores.py::test_what_a_handler_has_claimed_is_left_to_it",
    ),
    Mutant(
        "kombu drops what nothing is bound for",
        "relay/virtual.py",
        "if self._bound(way.exchange, way.routing_key):",
        "if self:",
        "tests/relay/test_virtual.py::test_what_nothing_is_bound_for_is_unroutable",
    ),
    Mutant(
        "a guess at who is to blame",
        "relay/blame.py",
        "    if only is not None:\n        window.refused(only, told(error))\n    return only is None\n",
        "    window.refused(window.flights()[0][0], told(error))\n    return False\n",
        "tests/relay/test_blame.py::test_among_many_it_is_looked_for_and_nobody_is_blamed",
    ),
)


class Unfit(Exception):
    """The mutant's code is not there any more, or there twice: it has to be written anew."""


def check(mutant: Mutant) -> None:
    """Make sure that a mutant can be made.

    Raises:
        Unfit: it cannot.
    """
    found = (ROOT / mutant.file).read_text().count(mutant.old)
    if found != 1:
        raise Unfit(f"{mutant.name}: {mutant.old!r} is {found} times in {mutant.file}")
    if mutant.old == mutant.new or not (ROOT / mutant.test.partition("::")[0]).is_file():
        raise Unfit(f"{mutant.name}: changes nothing, or {mutant.test} does not exist")


def survives(mutant: Mutant, folder: Path) -> str | None:
    """Make a mutant in ``folder`` and run its test there; return what the test said if it stayed green.

    Raises:
        Unfit: it cannot be made, or its test did not run at all.
    """
    check(mutant)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    broken = folder / mutant.file
    broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 0 and " passed" in done.stdout:
        return done.stdout
    if done.returncode == 1 and " failed" in done.stdout:
        return None
    raise Unfit(f"{mutant.name}: its test did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
