"""Answers Kubernetes: ``/livez`` (the loop turns), ``/readyz`` (both servers answer; a standby is ready too).

One small thread of the standard library. It looks at the relay and touches nothing of it.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from outbox.errors import WrongEnvironment
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.loop import Relay

STUCK: Final = 10.0
"""Seconds without a turn of the loop after which a relay is not live: no step of it takes more than two."""


def live(relay: Relay) -> tuple[bool, dict[str, Any]]:
    """Return whether the loop turns, and since when it did not."""
    age = clock() - relay.ticked_at
    return age < STUCK, {"leading": relay.leading, "last_turn_seconds_ago": round(age, 3)}


def ready(relay: Relay) -> tuple[bool, dict[str, Any]]:
    """Return whether both servers can be reached, and which cannot."""
    able = {"database": relay.database_live, "broker": relay.broker_live}
    return all(able.values()), {"leading": relay.leading, **able}


PAGES: Final = {"/livez": live, "/readyz": ready}


@contextmanager
def serving(relay: Relay, address: str | None) -> Iterator[int]:
    """Serve the probes of ``relay`` at ``address:port`` while the block runs; yield the port (0: no address).

    Raises:
        WrongEnvironment: the address cannot be had.
    """
    if address is None:
        yield 0
        return
    name, _, port = address.rpartition(":")
    try:
        server = ThreadingHTTPServer((name.strip("[]"), int(port)), _page(relay))
    except OSError as error:
        raise WrongEnvironment(
            f"--http {address}: {error.strerror or error}; choose another address"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _page(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            check = PAGES.get(self.path.partition("?")[0])
            good, told = check(relay) if check else (False, {"pages": list(PAGES)})
            body = json.dumps(told).encode()
            self.send_response(200 if good else 503 if check else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a probe a second would fill the log."""

    return Page
