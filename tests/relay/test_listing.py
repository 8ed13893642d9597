"""``outbox list`` and ``outbox show``."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from operating import read
from sqlalchemy.orm import Session

import outbox as library

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from databases import Database
    from operating import Jobs

    Outbox = Callable[..., Result]


@pytest.mark.parametrize("state", ["pending", "dead", "scheduled", "parked"])
def test_pages_follow_one_another_without_gap_or_repetition(outbox: Outbox, jobs: Jobs, state: str) -> None:
    known = {str(jobs.add(state)) for _ in range(7)}
    seen: list[str] = []
    after: tuple[str, ...] = ()
    for expected in (3, 3, 1):
        page = read(outbox("list", "--state", state, "--limit", 3, "--json", *after))
        assert len(page["jobs"]) == expected
        seen += [job["id"] for job in page["jobs"]]
        after = ("--after", page["after"])
    assert page["after"] is None
    assert len(seen) == 7
    assert set(seen) == known


def test_the_last_to_die_is_listed_first(outbox: Outbox, jobs: Jobs) -> None:
    ids = [str(jobs.add("dead")) for _ in range(3)]
    assert [job["id"] for job in read(outbox("list", "--state", "dead", "--json"))["jobs"]] == ids[::-1]


def test_the_last_to_be_added_is_listed_first(outbox: Outbox, database: Database) -> None:
    added = []
    for _ in range(4):
        added.append(str(database.value("SELECT outbox.add('a', '{}')")))
        with Session(database.engine) as session, session.begin():
            added.append(str(library.add(session, "a", {})))
    assert [job["id"] for job in read(outbox("list", "--json"))["jobs"]] == added[::-1]


def test_a_kind_may_be_a_pattern(outbox: Outbox, jobs: Jobs) -> None:
    for kind in ("mail.sent", "mail.lost", "mail_x", "bill"):
        jobs.add(kind=kind)
    assert {job["kind"] for job in read(outbox("list", "--kind", "mail.*", "--json"))["jobs"]} == {
        "mail.sent",
        "mail.lost",
    }
    assert {job["kind"] for job in read(outbox("list", "--kind", "mail_*", "--json"))["jobs"]} == {"mail_x"}
    assert len(read(outbox("list", "--kind", "bill", "--json"))["jobs"]) == 1


def test_a_list_for_people_is_aligned_and_says_how_to_go_on(outbox: Outbox, jobs: Jobs) -> None:
    ids = [jobs.add("dead", "mail", "line one\nline \x1b[31mtwo " + "x" * 100) for _ in range(2)]
    shown = outbox("list", "--state", "dead", "--limit", 1)
    lines = shown.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["ID", "KIND", "KEY", "STATE", "ATTEMPT", "CREATED", "ERROR"]
    assert lines[1].startswith(f"{ids[1]}  mail")
    assert "line one line ?[31mtwo xxx" in lines[1]
    assert lines[1].endswith("…")
    assert shown.stderr.startswith("more: --after ")


def test_times_are_in_utc(outbox: Outbox, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = database.value("SELECT outbox.add('a', '{}')")
    moment = database.value("SELECT created_at FROM outbox.job").astimezone(UTC)
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    assert f"{moment:%Y-%m-%dT%H:%M:%SZ}" in outbox("list").stdout
    for shown in (outbox("show", job_id), outbox("list", "--json")):
        assert f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}" in shown.stdout


def test_show_has_the_payload_and_who_did_what(outbox: Outbox, jobs: Jobs, database: Database) -> None:
    job_id = jobs.add("dead", error="it broke")
    assert outbox("retry", job_id).exit_code == 0
    found = read(outbox("show", job_id, "--json"))
    assert found["payload"] == {"n": 1}
    assert [(each["version"], each["from"], each["to"]) for each in found["history"]] == [
        (2, "pending", "dead"),
        (3, "dead", "scheduled"),
    ]
    assert found["history"][0]["note"] == "it broke"
    assert found["history"][1]["by"].startswith("operator:")
    table = outbox("show", job_id).output
    assert '{"n": 1}' in table
    assert "operator:" in table


def test_the_publish_mark_is_in_the_job_and_not_in_its_history(outbox: Outbox, jobs: Jobs) -> None:
    found = read(outbox("show", jobs.add("published"), "--json"))
    assert (found["state"], found["version"], found["history"]) == ("published", 1, [])
    assert found["published_at"] is not None


def test_show_writes_what_is_no_text_in_digits(outbox: Outbox, database: Database) -> None:
    job_id = uuid4()
    database.execute(
        "INSERT INTO outbox.job (id, kind, payload, content_type) VALUES (%s, 'a', %s, 'image/png')",
        job_id,
        b"\xff\0",
    )
    assert read(outbox("show", job_id, "--json"))["payload"] == "ff00"
