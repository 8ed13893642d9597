"""What a handler may answer instead of having done its work.

Each may be returned or raised, whichever reads better where it happens. Whatever else is raised is a failure.
"""

from __future__ import annotations

from outbox.backoff import LONGEST_DELAY


class Outcome(Exception):
    """Base of the answers. Not an error: exceptions only so that they can leave nested functions."""


class Snooze(Outcome):
    """Not now: try again later, and do not count this attempt.

    Args:
        seconds: How long to wait, from 0 to 365,000 days.
        reason: Kept in the log of transitions.

    Raises:
        ValueError: ``seconds`` is out of range.
    """

    def __init__(self, seconds: float, reason: str = "snoozed") -> None:
        if not 0 <= seconds <= LONGEST_DELAY.total_seconds():
            limit = f"{LONGEST_DELAY.total_seconds():.0f} ({LONGEST_DELAY.days} days)"
            raise ValueError(f"Snooze takes seconds, from 0 to {limit}, not {seconds!r}")
        self.seconds = seconds
        self.reason = reason
        super().__init__(seconds, reason)


class Cancel(Outcome):
    """Nothing to do any more: the job is cancelled.

    Args:
        reason: Kept with the job.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Bury(Outcome):
    """It can never succeed: the job is dead at once, without further attempts.

    Args:
        reason: Kept with the job.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
