"""The two pages that Kubernetes asks for."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import httpx
import pytest

from outbox.errors import WrongEnvironment
from relay import probes
from relay.term import clock


@dataclass
class Standing:
    """What the probes see of a relay."""

    ticked_at: float = field(default_factory=clock)
    leading: bool = False
    database_live: bool = True
    broker_live: bool = True


def ask(relay: Standing, page: str) -> httpx.Response:
    with probes.serving(relay, "127.0.0.1:0") as port:
        return httpx.get(f"http://127.0.0.1:{port}{page}")


def test_a_standby_is_live_and_ready() -> None:
    assert ask(Standing(), "/livez").status_code == 200
    assert ask(Standing(), "/readyz").json() == {"leading": False, "database": True, "broker": True}


def test_a_loop_that_does_not_turn_is_not_live() -> None:
    assert ask(Standing(ticked_at=clock() - 11), "/livez").status_code == 503


@pytest.mark.parametrize("missing", ["database_live", "broker_live"])
def test_a_relay_without_a_server_is_live_and_not_ready(missing: str) -> None:
    relay = Standing(**{missing: False})
    assert ask(relay, "/readyz").status_code == 503
    assert ask(relay, "/livez").status_code == 200


def test_another_page_is_not_found_and_names_the_two() -> None:
    answer = ask(Standing(), "/metrics")
    assert (answer.status_code, answer.json()) == (404, {"pages": ["/livez", "/readyz"]})


def test_an_address_that_is_taken_is_refused_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(WrongEnvironment, match=f"--http {address}: .*in use"),
            probes.serving(Standing(), address),
        ):
            pass
