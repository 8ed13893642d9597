"""What the sandbox raises: there is no such server here, or it would not start."""

from __future__ import annotations

from typing import ClassVar

from outbox.errors import OutboxError


class Unavailable(OutboxError):
    """No source on this machine has the server's binary; the message names the remedy."""

    exit_code: ClassVar[int] = 69


class StartFailed(OutboxError):
    """The server is here but did not start; the message ends with what its log said."""

    exit_code: ClassVar[int] = 69
