"""Free TCP ports of 127.0.0.1."""

from __future__ import annotations

import random
import re
import socket

# Below the range from which the kernel takes the near ends of outgoing connections (32768 and up on
# Linux, 49152 on macOS): a port from within that range can be taken by anybody's client while our server
# is being restarted.
_RANGE = range(15_000, 32_000)
_TRIES = 200
# Erlang's port mapper says nothing and ends, as if all were well.
_TAKEN = re.compile(r"address already in use|eaddrinuse|epmd ended with code 0", re.IGNORECASE)


def free_port() -> int:
    """A port that nothing listened on a moment ago.

    Returns:
        The port. Somebody may take it before it is used: see :func:`taken`.

    Raises:
        OSError: no port of the range is free.
    """
    for port in random.SystemRandom().sample(_RANGE, _TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"none of {_TRIES} ports between {_RANGE.start} and {_RANGE.stop} of 127.0.0.1 is free")


def taken(said: str) -> bool:
    """Whether what a server said means that somebody else has its port."""
    return bool(_TAKEN.search(said))
