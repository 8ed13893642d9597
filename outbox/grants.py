"""Which rights each kind of role needs in the schema ``outbox``, as SQL. Nothing here runs it.

    app        adds jobs, and can neither read nor change them
    relay      publishes, fires schedules, prunes; operators' commands need the same
    consumer   runs jobs, adopts messages, adds what its handlers add, and may fire schedules

The fourth is the owner: the role that migrates. Rights add up: an application that also cancels jobs has the
rights of app and consumer. The log of transitions needs none, because a trigger writes it as the owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from outbox.errors import ConfigError
from outbox.names import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["app", "relay", "consumer"]

# Never xid and pos: with values of its own a row could hide below the relay's low-water mark.
_ADDED: Final = (
    "id, kind, key, payload, content_type, headers, exchange, routing_key, state, max_attempts, unique_key, "
    "tracked, available_at"
)
_FIRED: Final = "id, kind, key, payload, content_type, headers, exchange, routing_key, max_attempts, tracked"
_ADOPTED: Final = f"{_ADDED}, attempt, error, started_at, lease_until, lease_token, progress"
_MOVED: Final = "state, version, attempt, available_at, started_at, lease_until, lease_token, progress, error"

_RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    "app": (
        "USAGE ON SCHEMA outbox",
        f"INSERT ({_ADDED}) ON outbox.job",
        "EXECUTE ON FUNCTION outbox.add, outbox.emit",
    ),
    "relay": (
        "USAGE ON SCHEMA outbox",
        f"SELECT, INSERT ({_FIRED}), UPDATE, DELETE ON outbox.job",
        "SELECT, INSERT, DELETE ON outbox.slot",
        "SELECT, DELETE ON outbox.transition",
        "SELECT, UPDATE ON outbox.leader",
        "SELECT ON outbox.taker, outbox.meta, outbox.jobs",
        "SELECT ON SEQUENCE outbox.job_pos_seq",
        "EXECUTE ON FUNCTION outbox.transition",
    ),
    "consumer": (
        "USAGE ON SCHEMA outbox",
        f"SELECT, INSERT ({_ADOPTED}), UPDATE ({_MOVED}) ON outbox.job",
        "SELECT ON outbox.transition, outbox.meta",
        "SELECT, INSERT, UPDATE ON outbox.taker",
        "SELECT, INSERT ON outbox.slot",
        "EXECUTE ON FUNCTION outbox.add, outbox.emit, outbox.transition",
    ),
}

_LONGEST: Final = 63  # bytes: PostgreSQL cuts what is longer, and grants to another role
_EVERYBODY: Final = frozenset({"public", "none"})  # even in quotes


def statements(role: str, kind: Kind) -> list[str]:
    """Return the statements that give a role the rights of its kind. They may be run again.

    Args:
        role: Its name, as PostgreSQL spells it; quoted here.
        kind: What it shall do.

    Raises:
        ConfigError: ``role`` cannot be the name of one role, or there is no such kind.
    """
    if kind not in _RIGHTS:
        raise ConfigError([f"there are rights for {', '.join(_RIGHTS)}, not for {kind!r}"])
    name = _quoted(role)
    return [f"GRANT {rights} TO {name}" for rights in _RIGHTS[kind]]


def _quoted(role: str) -> str:
    try:
        name = check_name(role, "a role's name", _LONGEST)
    except (TypeError, ValueError) as error:
        raise ConfigError([str(error)]) from None
    if name in _EVERYBODY:
        raise ConfigError([f"{name} is everybody, not a role"])
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
