"""The guarantees on brokers that kombu emulates AMQP on, broken: a rule, the code, and its test."""

from __future__ import annotations

from mutation import Mutant

VIRTUAL = (
    Mutant(
        "kombu drops what nothing is bound for",
        "relay/virtual.py",
        "if self._bound(way.exchange, way.routing_key):",
        "if self:",
        "tests/relay/test_virtual.py::test_what_nothing_is_bound_for_is_unroutable",
    ),
    Mutant(
        "what a virtual broker has not answered for is confirmed",
        "relay/virtual.py",
        "                answers = batch.flush()\n",
        "                self._window.acked(self._tag, multiple=True)\n"
        "                answers = batch.flush()\n",
        "tests/relay/test_virtual.py::test_a_chunk_without_an_answer_is_unknown",
    ),
    Mutant(
        "bindings that are looked up once and for all",
        "relay/virtual.py",
        "        self._bindings.look_afresh()\n",
        "",
        "tests/relay/test_virtual.py::test_a_queue_that_is_unbound_takes_no_more",
    ),
    Mutant(
        "a round trip for each message of a chunk",
        "relay/virtual.py",
        "return Batch(self._channel)",
        "pass",
        "tests/relay/test_virtual.py::test_a_long_way_is_gone_once_a_chunk_and_not_once_a_message",
    ),
    Mutant(
        "one refusal is the refusal of all",
        "relay/virtual.py",
        "            elif refuses_queue(answer):",
        "            elif not answer:",
        "tests/relay/test_virtual.py::test_a_queue_that_is_refused_is_the_ways_fault_and_the_others_go",
    ),
    Mutant(
        "bindings looked up anew between check and sending",
        "relay/batch.py",
        "        if exchange not in self._known:\n",
        "        if self:\n",
        "tests/relay/test_virtual.py::test_a_queue_that_is_unbound_after_the_look_still_gets_its_message",
    ),
)
