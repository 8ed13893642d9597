"""What the model knows at one moment: jobs, relays, messages, consumers. Values only, no steps."""

from __future__ import annotations

from typing import Final, NamedTuple

from outbox.states import State

SCHEDULED: Final = State.SCHEDULED.value
PENDING: Final = State.PENDING.value
PARKED: Final = State.PARKED.value
PUBLISHED: Final = State.PUBLISHED.value
RUNNING: Final = State.RUNNING.value
SUCCEEDED: Final = State.SUCCEEDED.value
DEAD: Final = State.DEAD.value
CANCELLED: Final = State.CANCELLED.value

# How far the transaction is that adds a job.
IDLE: Final = "not begun"
BEGUN: Final = "begun"  # it has an xid
DRAWN: Final = "position drawn"  # without an xid: only mutants do that
OPEN: Final = "inserted"
DONE: Final = "committed"
GONE: Final = "rolled back"

# What a consumer is doing with a message.
GOT: Final = "has it"
WORK: Final = "works"
RUNS: Final = "runs under a lease"
DID: Final = "may ack"

Ident = tuple[int, int]
"""One version of one job: the job's number, and the version."""


class Job(NamedTuple):
    """A row, the transaction that adds it, and what an observer of the broker knows of it.

    Args:
        key: ordering key; "" for none.
        event: news for anybody: its last state is ``published``, and a consumer adopts it.
        tx: how far its transaction is.
        pos: position, 0 while none is drawn.
        line: place in its key's line.
        state: as in ``outbox/states.py``.
        version: the same.
        attempt: failures so far.
        durable: whether the commit has reached the disk.
        after: jobs whose commit came before this transaction began, as a set of bits.
        credit: for each version, how often the broker may still take it before there is a duplicate too many.
        sure: whether the broker took its present version.
        known: whether the broker ever took it.
        excepted: an operator has taken it out of its key's line.
        adopted: whether the consumer's database has a row for it (events).
        effects: how often a handler's work was committed.
    """

    key: str = ""
    event: bool = False
    tx: str = IDLE
    pos: int = 0
    line: int = 0
    state: str = PENDING
    version: int = 1
    attempt: int = 0
    durable: bool = True
    after: int = 0
    credit: tuple[int, ...] = (1,)
    sure: bool = False
    known: bool = False
    excepted: bool = False
    adopted: bool = False
    effects: int = 0


class Flight(NamedTuple):
    """A message that the broker has dealt with, while its word is on the way."""

    ident: Ident
    word: str


ACK: Final = "ack"
NACK: Final = "nack"
RETURN: Final = "return"


class Relay(NamedTuple):
    """A process, as it sees itself, and what is true of it.

    Args:
        leads: whether it believes so.
        session: whether its database session, and with it the lock, still stands.
        reigns: whether the term in the leader's row is its own.
        frozen: stopped, and perhaps continued later.
        late: its own clock says that others may have deposed it.
        plan: read, and not fenced yet.
        fenced: to be sent.
        flying: sent, and nothing heard.
        unmarked: confirmed, and not marked.
        front: the keyless lane is read up to here.
        low: nothing is to be found up to here.
        settled: a position, and (as bits) the jobs whose transactions must end before it counts.
        listed: what a sweep saw, where it reads on with a second statement (mutant).
    """

    leads: bool = False
    session: bool = False
    reigns: bool = False
    frozen: bool = False
    late: bool = False
    plan: tuple[Ident, ...] = ()
    fenced: tuple[Ident, ...] = ()
    flying: tuple[Flight, ...] = ()
    unmarked: tuple[Ident, ...] = ()
    front: int = 0
    low: int = 0
    settled: tuple[int, int] = (0, 0)
    listed: int = 0

    def memory(self) -> set[Ident]:
        """Return what it has in flight: sent or confirmed, and not marked."""
        return {flight.ident for flight in self.flying} | set(self.unmarked)


class Slot(NamedTuple):
    """A consumer with one message."""

    ident: Ident
    phase: str


class World(NamedTuple):
    """Everything at one moment.

    Args:
        jobs: in the order in which their transactions begin.
        relays: interchangeable.
        queue: messages that wait; their order is not modelled.
        slots: consumers that have a message.
        bound: whether the destination has a queue.
        seq: the last position that was drawn.
        faults: how many may still happen.
        spare: how often handlers may still fail, and operators and the broker do what is no fault.
        flaw: the promise that was broken by the last step; "" for none.
    """

    jobs: tuple[Job, ...]
    relays: tuple[Relay, ...]
    queue: tuple[Ident, ...] = ()
    slots: tuple[Slot, ...] = ()
    bound: bool = True
    seq: int = 0
    faults: int = 0
    spare: int = 0
    flaw: str = ""


class Step(NamedTuple):
    """What happens: who does what, to which job (its number; -1: to none)."""

    actor: str
    what: str
    job: int = -1


Move = tuple[Step, World]
