"""The journals of a torture, read while they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.theatre.judge import Written, judge
from relay.torture.history import DELIVERED, HANDLED, WRITTEN, History

if TYPE_CHECKING:
    from pathlib import Path

WRITES = """\
attempt t1 a:w.1:k:job b:w.2:-:event 0.1
committed t1 0.2
attempt t2 c:w.3:k:job 0.3
rolled t2 0.4
attempt t3 d:w.4:-:event 0.5
ambiguous t3 0.6
attempt t4 e:w.5:-:job 0.7
"""


def history(folder: Path, delivered: str = "", handled: str = "") -> History:
    (folder / f"{WRITTEN}1").write_text(WRITES)
    (folder / DELIVERED).write_text(delivered)
    (folder / f"{HANDLED}9").write_text(handled)
    made = History(folder)
    made.look()
    return made


def test_each_transaction_has_its_outcome(tmp_path: Path) -> None:
    account = history(tmp_path).account
    assert account.committed == [Written("a", "k"), Written("b", None, event=True)]
    assert account.rolled_back == {"c"}
    assert account.ambiguous == {"d", "e"}  # the last one's writer was killed, or is at it still
    assert account.events == {"d"}


def test_what_arrived_is_what_the_wiretap_saw_and_what_handlers_got(tmp_path: Path) -> None:
    seen = history(tmp_path, "a 1 plain first 0.8\n", "w.2 0.9\nw.2 1.0\n")
    assert (seen.seen, seen.handled, seen.runs, seen.missing) == ({"a", "b"}, {"b"}, 2, set())
    assert seen.effects(["w.1", "w.1", "nobody's"]) == {"a": 2, "nobody's": 1}


def test_a_line_counts_when_it_is_complete(tmp_path: Path) -> None:
    seen = history(tmp_path, "a 1 pla")
    assert not seen.deliveries
    with (tmp_path / DELIVERED).open("a") as file:
        file.write("in first 0.8\nb - flagged redelivered 0.9\n")
    seen.look()
    assert [(d.id, d.version, d.flagged, d.redelivered) for d in seen.deliveries] == [
        ("a", 1, False, False),
        ("b", None, True, True),
    ]


def test_a_job_that_nobody_wrote_of_is_a_ghost(tmp_path: Path) -> None:
    seen = history(tmp_path, "a 1 plain first 0.8\nb - plain first 0.8\nz 1 plain first 0.9\n")
    assert judge(seen.account, seen.deliveries).ghosts == {"z"}


def test_an_outcome_may_be_read_later_than_its_attempt(tmp_path: Path) -> None:
    seen = history(tmp_path)
    with (tmp_path / f"{WRITTEN}1").open("a") as file:
        file.write("committed t4 0.9\n")
    seen.look()
    assert seen.account.ambiguous == {"d"}
    assert "e" in seen.account.ids
