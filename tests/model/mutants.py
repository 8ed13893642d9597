"""Rules broken on purpose: with each the protocol breaks a promise, and the model must see it.

The belts are rules that are broken with no harm, because another one holds as well.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from model import scopes
from model.rules import Rules, Scope

RIGHT: Final = Rules()


class Mutant(NamedTuple):
    """What is broken, where it shows, and as what."""

    name: str
    rules: Rules
    scope: Scope
    flaw: str


MUTANTS: Final = (
    Mutant("no fence", RIGHT._replace(fence=False), scopes.RESTART, "lost with the database"),
    Mutant(
        "no fence, on a database that forgets nothing",
        RIGHT._replace(fence=False),
        scopes.RESTART._replace(lazy=False),
        "a duplicate",
    ),
    Mutant("no look at the clock", RIGHT._replace(trust=False), scopes.TAKEOVER, "a duplicate"),
    Mutant(
        "no term check",
        RIGHT._replace(token=False, one_session=False, fence=False),
        scopes.TAKEOVER,
        "a relay whose term is over",
    ),
    Mutant(
        "statements in another session than the lock's",
        RIGHT._replace(one_session=False),
        scopes.RESTART,
        "rolled back",
    ),
    Mutant("mark by id alone", RIGHT._replace(mark_version=False), scopes.RETRY, "never took"),
    Mutant("mark before confirm", RIGHT._replace(confirm_first=False), scopes.LINE, "never took"),
    Mutant("in flight, and read again", RIGHT._replace(leave_out=False), scopes.LINE, "a duplicate"),
    Mutant("ignore basic.return", RIGHT._replace(heed_return=False), scopes.PARKING, "never took"),
    Mutant("cursor reading", RIGHT._replace(sweep=False), scopes.READING, "stranded"),
    Mutant(
        "low water without xmin > xid", RIGHT._replace(low_condition=False), scopes.READING, "the low water"
    ),
    Mutant(
        "list and xmin by two statements", RIGHT._replace(low_at_once=False), scopes.READING, "the low water"
    ),
    Mutant("a position before its xid", RIGHT._replace(xid_first=False), scopes.READING, "the low water"),
    Mutant("staged at the end of the line", RIGHT._replace(keep_line=False), scopes.PARKING, "earlier job"),
    Mutant("a parked job holds nothing", RIGHT._replace(hold=False), scopes.PARKING, "earlier job"),
    Mutant("two of a key in flight", RIGHT._replace(one_of_key=False), scopes.PARKING, "earlier job"),
    Mutant(
        "redeliver with a new version", RIGHT._replace(same_version=False), scopes.FORGETFUL, "a copy stale"
    ),
    Mutant(
        "redeliver without a look at the queue",
        RIGHT._replace(passive_look=False),
        scopes.FORGETFUL,
        "a duplicate",
    ),
    Mutant("ack before commit", RIGHT._replace(commit_first=False), scopes.CONSUMERS, "stranded"),
    Mutant("no version check", RIGHT._replace(check_version=False), scopes.CONSUMERS, "twice"),
    Mutant("adoption without ON CONFLICT", RIGHT._replace(on_conflict=False), scopes.EVENTS, "twice"),
    Mutant("no rescue", RIGHT._replace(rescue=False), scopes.LEASED, "stranded"),
)

BELTS: Final = (
    ("no token in the mark, in the lock's own session", RIGHT._replace(token=False), scopes.TAKEOVER),
    ("another session than the lock's, with the token", RIGHT._replace(one_session=False), scopes.TAKEOVER),
    ("no claim: the version is compared last", RIGHT._replace(claim=False), scopes.CONSUMERS),
    ("no claim: the message's row is there", RIGHT._replace(claim=False), scopes.EVENTS),
)
