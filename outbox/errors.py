"""Every error of both packages, in one tree, each with its exit code. Vendor errors stop at the seam.

    OutboxError                    1   something failed
    ├── ConfigError                2   the settings contradict themselves; lists every problem
    ├── Misuse                     1   a call that would break the promise (AUTOCOMMIT, another database)
    ├── Unreachable               69   a server does not answer
    ├── Busy                      75   somebody else holds what we need, and is named
    ├── WrongEnvironment          78   pooler, replica, old schema, lossy transport, second taker …
    ├── LeadershipLost             1   the lock's session is gone or another term has begun
    └── LockLost                   1   the session that held a command's lock is gone

Bad payloads raise the built-in ``TypeError`` and ``ValueError``: they are the caller's, not ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class OutboxError(Exception):
    """Base of all. ``str(error)`` is one line: the cause, and what to do."""

    exit_code: ClassVar[int] = 1


class ConfigError(OutboxError):
    """Settings that cannot be used.

    Args:
        problems: every problem found, one sentence each.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Misuse(OutboxError):
    """A call that would break the promise; nothing was written."""


class Unreachable(OutboxError):
    """A server does not answer, or refuses to talk to us."""

    exit_code: ClassVar[int] = 69


class Busy(OutboxError):
    """Somebody else holds what is needed; the message names them."""

    exit_code: ClassVar[int] = 75


class WrongEnvironment(OutboxError):
    """The surroundings do not allow what we promise; going on would be worse than stopping."""

    exit_code: ClassVar[int] = 78


class LeadershipLost(OutboxError):
    """The lock's session is gone, or another term has begun. Nothing may be published or marked any more."""


class LockLost(OutboxError):
    """The session that held a command's lock is gone: another one may run, so this one was stopped."""
