"""How a command must fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processes import Process

USAGE, UNREACHABLE, WRONG = 2, 69, 78


def fails(process: Process, code: int, *secrets: str) -> str:
    """Return the one line with which a command failed."""
    assert process.wait(30) == code, process.story()
    assert len(process.errors) == 1, process.story()
    (line,) = process.errors
    assert line.startswith("outbox: ")
    for secret in ("Traceback", *secrets):
        assert secret not in process.story()
    return line.removeprefix("outbox: ")
