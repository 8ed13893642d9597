"""Log lines: one sentence for people, one object for machines, for every event there is."""

from __future__ import annotations

import json
import logging
from dataclasses import fields

import pytest

from outbox import events, logs

KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)][
    1:
]
SAMPLES = {
    "str": "some words",
    "int": 3,
    "float": 0.25,
    "str | None": None,
    "tuple[str, ...]": ("order.paid",),
}


def sample(kind: type[events.Event]) -> events.Event:
    return kind(**{field.name: SAMPLES[str(field.type)] for field in fields(kind)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_has_a_sentence_of_its_own(kind: type[events.Event]) -> None:
    said = logs.sentence(sample(kind))
    assert said
    assert "None" not in said
    assert "{" not in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_one_object_for_machines(kind: type[events.Event]) -> None:
    event = sample(kind)
    record = logging.LogRecord("outbox", logging.INFO, __file__, 1, logs.sentence(event), (), None)
    record.event = event
    line = json.loads(logs.Formatter().format(record))
    assert line["event"] == logs.name(kind)
    assert {field.name for field in fields(kind)} <= line.keys()


def test_a_line_of_another_library_is_an_object_too() -> None:
    record = logging.LogRecord("kombu", logging.ERROR, __file__, 1, "it %s", ("broke",), None)
    line = json.loads(logs.Formatter().format(record))
    assert (line["event"], line["level"], line["message"]) == ("log", "error", "it broke")


def test_a_leader_that_steps_down_names_who_leads_now_if_it_knows() -> None:
    assert logs.sentence(events.LeadershipGivenUp(3, "stopped")) == "no longer leading (term 3): stopped"
    assert logs.sentence(events.LeadershipGivenUp(3, "stopped", "pod-2")).endswith(
        "stopped; pod-2 holds the lock now"
    )
