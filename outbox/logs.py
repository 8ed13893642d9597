"""Every log line of the product. Observes events; nothing else in the two packages words a log line.

A line for people is one sentence; as JSON it is one object: the event's name in snake case under ``event``,
its
fields, ``level`` and ``time``.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from outbox import events
from outbox.events import Event

WORDING: Final[dict[type[Event], tuple[int, str]]] = {
    events.RelayStarted: (logging.INFO, "relay started; broker {broker}, grade {grade}"),
    events.LeadershipGained: (logging.INFO, "leading, term {term}"),
    events.LeadershipGivenUp: (
        logging.WARNING,
        "no longer leading (term {term}): {reason}{held}",
    ),
    events.StandingBy: (logging.INFO, "standing by; leader is {holder}"),
    events.ForeignHolder: (
        logging.WARNING,
        "the lock is held by {holder}, silent for {silent:.0f} s and not ours to end: end that session",
    ),
    events.LeaderDeposed: (logging.WARNING, "deposed {holder}, silent for {silent:.1f} s"),
    events.DatabaseLost: (logging.WARNING, "database unreachable: {reason}; again in {wait:.1f} s"),
    events.StatementPostponed: (
        logging.WARNING,
        "a statement did not get through and is tried again: {reason}",
    ),
    events.BrokerConnected: (logging.INFO, "connected to broker {broker}"),
    events.BrokerLost: (
        logging.WARNING,
        "broker connection lost: {reason}; unconfirmed, so still pending: {unknown}; again in {wait:.1f} s",
    ),
    events.BrokerBlocked: (logging.WARNING, "broker asks publishers to pause: {reason}"),
    events.BrokerUnblocked: (logging.INFO, "broker takes messages again"),
    events.BatchPublished: (
        logging.DEBUG,
        "published {confirmed}, overtaken {overtaken}, nacked {nacked}, unroutable {unroutable}",
    ),
    events.DestinationDown: (
        logging.WARNING,
        "destination {destination} is down: {reason}; its jobs are parked; probed again in {wait:.0f} s",
    ),
    events.DestinationResting: (
        logging.WARNING,
        "the broker takes no more for {destination} (a full queue?); its jobs wait; again in {wait:.1f} s",
    ),
    events.DestinationUp: (logging.INFO, "destination {destination} takes messages again"),
    events.JobRefused: (logging.ERROR, "job {job_id} ({kind}) buried: the broker refuses it: {reason}"),
    events.JobsStaged: (logging.DEBUG, "scheduled jobs that are due: {count}"),
    events.JobsParked: (logging.INFO, "jobs parked: {count}"),
    events.JobsUnparked: (logging.INFO, "parked jobs that are pending again: {count}"),
    events.JobsRescued: (logging.WARNING, "leases ran out: {retried} retried, {buried} buried"),
    events.JobsRedelivered: (logging.WARNING, "lost by the broker and sent again: {count}"),
    events.JobsPruned: (logging.INFO, "finished jobs pruned: {count}"),
    events.SlotFired: (logging.INFO, "schedule {schedule}: job {job_id} for the slot of {slot}"),
    events.SlotsRefused: (logging.ERROR, "the database refuses work on schedules: {reason}"),
    events.ConsumerStarted: (logging.INFO, "consuming {queue} at {broker}: {kinds}"),
    events.ConsumerLost: (logging.WARNING, "{server} unreachable: {reason}; again in {wait:.1f} s"),
    events.KindMoved: (
        logging.WARNING,
        "jobs of kind {kind} go to queue {taker} now, no more to {queue}{because}",
    ),
    events.ConsumerRefused: (logging.ERROR, "the database refuses: {reason}; again in {wait:.0f} s"),
    events.JobHandled: (
        logging.INFO,
        "job {job_id} ({kind}) {state} in {seconds:.3f} s, attempt {attempt}{because}",
    ),
    events.JobMissing: (
        logging.WARNING,
        "job {job_id} ({kind}) is not in this database: pruned, lost in a failover, or of another database",
    ),
    events.MessageIgnored: (logging.DEBUG, "message of job {job_id} ({kind}) ignored: {result}"),
    events.MessageKept: (logging.DEBUG, "message of job {job_id} kept for {wait:.1f} s: {reason}"),
    events.MessageUnreadable: (logging.ERROR, "message buried as job {job_id}: {reason}"),
}


def name(kind: type[Event]) -> str:
    """Return an event's name as logs and metrics spell it: ``LeadershipGained`` → ``leadership_gained``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def sentence(event: Event) -> str:
    """Return the one line that tells a person what happened."""
    fields = asdict(event)
    reason, holder = fields.get("reason"), fields.get("holder")
    because, held = f": {reason}" if reason else "", f"; {holder} holds the lock now" if holder else ""
    return WORDING[type(event)][1].format(**fields, because=because, held=held)


class Formatter(logging.Formatter):
    """Write one JSON object a line.

    Records of other libraries become ``{"event": "log", ...}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        event = getattr(record, "event", None)
        known = (
            {"event": name(type(event)), **asdict(event)} if isinstance(event, Event) else {"event": "log"}
        )
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": stamp, "level": record.levelname.lower(), "message": record.getMessage(), **known}
        return json.dumps(line, default=str)


def log(event: Event) -> None:
    """Observe an event: write it to the logger ``outbox``."""
    level = WORDING[type(event)][0]
    logger = logging.getLogger("outbox")
    if logger.isEnabledFor(level):
        logger.log(level, "%s", sentence(event), extra={"event": event})


def configure(*, json_lines: bool, level: int = logging.INFO) -> None:
    """Send our lines to standard error; commands call this, libraries never do.

    Args:
        json_lines: one JSON object a line instead of a sentence.
        level: the lowest level written, as in ``logging``.
    """
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(Formatter() if json_lines else plain)
    logger = logging.getLogger("outbox")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
