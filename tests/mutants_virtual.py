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
        "                batch.flush()\n",
        "                self._window.acked(self._tag, multiple=True)\n                batch.flush()\n",
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
        "return self._channel.create_publish_batch(UNBOUNDED)",
        "pass",
        "tests/relay/test_virtual.py::test_a_long_way_is_gone_once_a_chunk_and_not_once_a_message",
    ),
)
