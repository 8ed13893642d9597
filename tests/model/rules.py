"""The rules of the protocol, each of which can be broken alone, and what may happen in a model's run."""

from __future__ import annotations

from typing import NamedTuple


class Rules(NamedTuple):
    """What the protocol does; a mutant has one of these the other way round.

    Args:
        fence: a statement before each window proves the term and flushes what was read.
        trust: a relay whose clock says that it may have been deposed sends nothing.
        one_session: every statement runs in the session that holds the lock, and dies with it.
        token: statements compare the term's token.
        mark_version: the mark compares the version, and not the id alone.
        confirm_first: the mark comes after the broker's confirm.
        leave_out: what is in flight or unmarked is not read again.
        heed_return: a returned message is no confirmed one.
        sweep: what committed behind the front is looked for.
        low_condition: the low water rises to a position only when all who may have drawn below it have ended.
        low_at_once: a sweep's list, and what it says of running transactions, are of one statement.
        xid_first: a transaction has its xid before it draws a position.
        keep_line: a job that is staged again keeps its place in its key's line.
        hold: a job that is parked or waits for a retry holds the later ones of its key.
        one_of_key: one job of a key is in flight at a time.
        same_version: redelivery keeps the version.
        passive_look: redelivery asks the queue first, and leaves alone what a handler has claimed.
        check_version: a consumer acts on the version of its message alone.
        commit_first: a consumer acks after its commit.
        claim: one copy of a job at a time is in a handler.
        on_conflict: a message that was adopted before is not adopted again.
        rescue: leases that ran out are taken back.
    """

    fence: bool = True
    trust: bool = True
    one_session: bool = True
    token: bool = True
    mark_version: bool = True
    confirm_first: bool = True
    leave_out: bool = True
    heed_return: bool = True
    sweep: bool = True
    low_condition: bool = True
    low_at_once: bool = True
    xid_first: bool = True
    keep_line: bool = True
    hold: bool = True
    one_of_key: bool = True
    same_version: bool = True
    passive_look: bool = True
    check_version: bool = True
    commit_first: bool = True
    claim: bool = True
    on_conflict: bool = True
    rescue: bool = True


class Scope(NamedTuple):
    """How large a world is, and what may happen in it.

    Args:
        name: for people.
        keys: of the jobs, "" for none.
        relays: how many.
        faults: how many, of ``kinds``.
        kinds: kill, freeze, stop (of relays), cut (from the broker), reset (of the database), die, expire (of
            consumers and their leases), forget (of the broker).
        spare: failures of handlers and all else that is no fault: so many in all.
        odds: which of these: fail, cancel, nack, unbound, operate, hasty (redelivery beside a copy in a
            prefetch).
        slots: how many messages consumers have at once.
        prefetch: whether a consumer may have a message for a while before it looks at it.
        window: how many jobs a relay has in flight.
        attempts: after so many failures a job is dead.
        events: whether the jobs are events.
        leased: whether handlers work under a lease.
        writers: ``plain`` (one step), ``slow`` (xid, position, commit or rollback).
        reading: whether positions matter: front, sweep, low water. If not, a read finds all that is pending.
        redeliver: whether the leader sends again what the broker may have lost.
        lazy: whether commits reach the disk later than they are seen.
    """

    name: str
    keys: tuple[str, ...] = ("", "", "")
    relays: int = 2
    faults: int = 2
    kinds: frozenset[str] = frozenset({"kill", "freeze", "cut", "reset", "die"})
    spare: int = 0
    odds: frozenset[str] = frozenset()
    slots: int = 1
    prefetch: bool = False
    window: int = 2
    attempts: int = 2
    events: bool = False
    leased: bool = False
    writers: str = "plain"
    reading: bool = False
    redeliver: bool = False
    lazy: bool = False

    @property
    def quick(self) -> bool:
        """Whether nothing can come between a consumer's steps: they are one step."""
        return not (self.prefetch or self.leased or self.slots > 1 or self.kinds & {"die", "reset"})

    @property
    def whole_line(self) -> bool:
        """Whether nothing can come between the broker's word and the relay that hears it."""
        return "cut" not in self.kinds


class Setting(NamedTuple):
    """What a step looks up: the rules, and the world's size."""

    rules: Rules
    scope: Scope
