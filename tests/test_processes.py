"""Processes under test are heard, frozen, killed and never left behind."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from helpers import eventually

from relay.sandbox.keeper import processes as all_processes

if TYPE_CHECKING:
    from processes import Process, Processes

TALK = """
import json, sys, threading
for number in range(3):
    print(json.dumps({"event": "counted", "number": number}), file=sys.stderr, flush=True)
print("not json", file=sys.stderr)
print("an answer")
if "stay" in sys.argv:
    threading.Event().wait()
sys.exit(3)
"""


def talk(processes: Processes, *words: str) -> Process:
    return processes.start(sys.executable, "-c", TALK, *words)


def test_events_are_found_by_name_and_fields(processes: Processes) -> None:
    process = talk(processes)
    assert process.wait_event("counted")["number"] == 0
    assert process.wait_event("counted", number=2)["number"] == 2
    assert process.wait_event("counted", after=1)["number"] == 1


def test_the_end_is_told_with_code_and_output(processes: Processes) -> None:
    process = talk(processes)
    assert process.wait() == 3
    assert process.output == "an answer\n"
    assert process.errors == ["not json"]


def test_an_event_that_does_not_come_fails_with_the_whole_story(processes: Processes) -> None:
    with pytest.raises(AssertionError, match="exit code 3") as failure:
        talk(processes).wait_event("never")
    assert "an answer" in str(failure.value)
    with pytest.raises(AssertionError, match=r"not within 0\.1 s"):
        talk(processes, "stay").wait_event("never", timeout=0.1)


def test_a_frozen_process_goes_on(processes: Processes) -> None:
    process = talk(processes, "stay")
    process.wait_event("counted", number=2)
    process.stop()
    process.terminate()
    assert process.running
    process.cont()
    assert process.wait() == -signal.SIGTERM


def test_a_kill_takes_the_whole_group(processes: Processes) -> None:
    parent = processes.start("/bin/sh", "-c", "sleep 1000 & echo $!; wait")
    child = int(eventually(lambda: parent.output))
    parent.kill()
    eventually(lambda: not_running(child))


def not_running(pid: int) -> bool:

    return pid not in {each for each, _, _ in all_processes()}
