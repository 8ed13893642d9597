"""``outbox retry``, ``cancel``, ``bury`` and ``prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest
from operating import read
from roles import role

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from databases import Database
    from operating import Jobs
    from processes import Processes

    Outbox = Callable[..., Result]

BUSY = 75


@pytest.mark.parametrize(
    ("verb", "state", "becomes"),
    [
        *(("retry", state, "scheduled") for state in ("dead", "cancelled", "parked", "published")),
        *(("cancel", state, "cancelled") for state in ("scheduled", "pending", "parked", "published")),
        *(("bury", state, "dead") for state in ("scheduled", "pending", "parked", "published")),
    ],
)
def test_what_an_operator_may_do(outbox: Outbox, jobs: Jobs, verb: str, state: str, becomes: str) -> None:
    job_id = jobs.add(state)
    (version,) = jobs.row(job_id, "version")
    assert read(outbox(verb, job_id, "--json")) == {"done": 1, "busy": 0, "refused": {}}
    assert jobs.row(job_id, "state, version") == (becomes, version + 1)


@pytest.mark.parametrize(
    ("verb", "state", "why"),
    [
        ("retry", "succeeded", "it succeeded; --again runs it once more"),
        ("retry", "running", "a handler is running it"),
        ("retry", "pending", "it is pending"),
        ("retry", "scheduled", "it is scheduled"),
        ("cancel", "running", "a handler is running it"),
        ("cancel", "dead", "it is dead"),
        ("bury", "succeeded", "it is succeeded"),
    ],
)
def test_what_an_operator_may_not_do(outbox: Outbox, jobs: Jobs, verb: str, state: str, why: str) -> None:
    job_id = jobs.add(state)
    refused = outbox(verb, job_id)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"outbox: {job_id}: {why}")
    assert jobs.state(job_id) == state


def test_a_job_that_succeeded_runs_again_when_that_is_said(outbox: Outbox, jobs: Jobs) -> None:
    job_id = jobs.add("succeeded")
    assert outbox("retry", "--again", job_id).exit_code == 0
    assert jobs.state(job_id) == "scheduled"


def test_an_event_that_was_published_is_sent_again_when_that_is_said(outbox: Outbox, jobs: Jobs) -> None:
    job_id = jobs.add("published", tracked=False)
    assert "it is an event" in outbox("retry", job_id).stderr
    assert "it is an event" in outbox("cancel", job_id).stderr
    assert outbox("retry", "--again", job_id).exit_code == 0
    assert jobs.state(job_id) == "scheduled"


def test_a_finished_job_begins_anew_and_another_keeps_its_place(
    outbox: Outbox, jobs: Jobs, database: Database
) -> None:
    dead, parked = jobs.add("dead", key="a"), jobs.add("parked", key="a")
    database.execute("UPDATE outbox.job SET attempt = 20 WHERE id = %s", dead)
    outbox("retry", dead, parked)
    assert jobs.row(dead, "attempt, available_at <= clock_timestamp()") == (0, True)
    holding = "attempt > 0 AND state = 'scheduled'"
    assert jobs.row(parked, holding) == (True,), "it holds those behind it in its key's line until it is sent"


def test_a_retry_is_no_failure_of_a_job_that_no_line_waits_for(outbox: Outbox, jobs: Jobs) -> None:
    parked = jobs.add("parked")
    outbox("retry", parked)
    assert jobs.row(parked, "state, attempt") == ("scheduled", 0)


def test_a_reason_is_kept_with_what_is_buried(outbox: Outbox, jobs: Jobs) -> None:
    job_id = jobs.add()
    outbox("bury", job_id, "--reason", "customer left")
    assert jobs.row(job_id, "error") == ("customer left",)
    assert read(outbox("show", job_id, "--json"))["history"][0]["note"] == "customer left"


def test_a_job_that_is_not_there_is_named(outbox: Outbox, jobs: Jobs) -> None:
    there, gone = jobs.add("dead"), uuid4()
    result = outbox("retry", there, gone)
    assert result.exit_code == 1
    assert result.stdout == "retried 1\n"
    assert result.stderr == f"outbox: {gone}: there is no such job\n"


def test_what_somebody_has_locked_is_passed_over_and_counted(
    outbox: Outbox, jobs: Jobs, database: Database
) -> None:
    ids = [jobs.add("dead") for _ in range(3)]
    with database.connect(autocommit=False) as rival:
        rival.execute("SELECT FROM outbox.job WHERE id = %s FOR UPDATE", [ids[1]])
        result = outbox("retry", "--all", "--state", "dead")
        assert result.exit_code == BUSY
        assert result.stdout == "retried 2, 1 busy: try again\n"
    assert [jobs.state(job_id) for job_id in ids] == ["scheduled", "dead", "scheduled"]
    assert outbox("retry", "--all", "--state", "dead").stdout == "retried 1\n"


def test_what_a_handler_has_claimed_is_busy(outbox: Outbox, jobs: Jobs, database: Database) -> None:
    job_id = jobs.add("published")
    with database.connect(autocommit=False) as handler:
        handler.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [str(job_id)])
        assert outbox("cancel", job_id).exit_code == BUSY
    assert jobs.state(job_id) == "published"


def test_thousands_are_changed_some_hundreds_at_a_time(outbox: Outbox, database: Database) -> None:
    database.execute("SELECT count(outbox.add('mail', to_jsonb(n))) FROM generate_series(1, 1234) n")
    database.execute("SELECT count(outbox.add('bill', to_jsonb(n))) FROM generate_series(1, 10) n")
    database.execute("UPDATE outbox.job SET state = 'dead', version = 2")
    assert outbox("retry", "--all", "--state", "dead", "--kind", "ma*").stdout == "retried 1234\n"
    counts = database.execute(
        "SELECT kind, state, count(*), count(DISTINCT xmin::text) FROM outbox.job GROUP BY 1, 2"
    )
    bills, mails = sorted(counts)
    assert bills[:3] == ("bill", "dead", 10)
    assert mails == ("mail", "scheduled", 1234, 3), "in three transactions"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("retry",), "name the jobs by their ids, or say --all"),
        (("retry", "--all"), "--all needs --state"),
        (("retry", "--all", "--state", "running"), "retry is for cancelled, dead, parked, published jobs"),
        (("retry", "--all", "--state", "succeeded"), "retry is for"),
        (("cancel", "--all", "--state", "dead"), "cancel is for"),
        (("retry", "--state", "dead"), "name the jobs by their ids"),
        (("retry", str(UUID(int=1)), "--all", "--state", "dead"), "name the jobs by their ids"),
        (("retry", str(UUID(int=1)), "--kind", "x"), "go with --all"),
        (("retry", "abc"), "not a valid UUID"),
        (("list", "--state", "dying"), "is not one of"),
    ],
)
def test_unclear_orders_change_nothing(outbox: Outbox, arguments: tuple[str, ...], why: str) -> None:
    result = outbox(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_the_database_refuses_what_the_command_would_not_ask(jobs: Jobs, database: Database) -> None:
    job_id = jobs.add("running")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute(
            "UPDATE outbox.job SET state = 'pending', version = version + 1 WHERE id = %s", job_id
        )


# --- prune ---


def test_prune_deletes_what_is_finished_and_old_with_its_history(
    outbox: Outbox, jobs: Jobs, database: Database
) -> None:
    for state in ("succeeded", "cancelled", "dead", "pending", "running", "published"):
        jobs.add(state)
    jobs.add("published", tracked=False)
    jobs.age(8 * 86_400, "finished_at")
    jobs.age(8 * 86_400, "published_at")
    young = jobs.add("succeeded")
    assert outbox("prune", "--older-than", "7d").stdout == "pruned 3\n"
    left = [state for (state,) in database.execute("SELECT state FROM outbox.job ORDER BY state")]
    assert left == ["dead", "pending", "published", "running", "succeeded"]
    assert jobs.state(young) == "succeeded"
    assert (
        database.value(
            "SELECT count(*) FROM outbox.transition t WHERE job_id NOT IN (SELECT id FROM outbox.job)"
        )
        == 0
    )
    assert read(outbox("prune", "--older-than", "7d", "--dead", "--json")) == {"pruned": 1}


def test_operators_need_only_the_relays_rights(jobs: Jobs, database: Database, processes: Processes) -> None:
    job_id = jobs.add("dead")
    with role(database, "relay") as operator:
        env = {"OUTBOX_DATABASE_URL": operator.url("psycopg")}
        for arguments in (
            ("status",),
            ("list",),
            ("show", str(job_id)),
            ("retry", str(job_id)),
            ("prune", "--older-than", "1d"),
        ):
            process = processes.outbox(*arguments, env=env)
            assert process.wait() == 0, process.story()
    assert jobs.state(job_id) == "scheduled"
