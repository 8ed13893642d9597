"""Understands the two addresses that people give us: the database's and the broker's.

Rewrites what another driver's spelling would break, shows an address without its secrets, and knows which
brokers may be named. An address that passes here is read by every library as it was meant; one that does not
is refused without any part of it that may be a password. Opens no connection, and imports no module that an
address names.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final, NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from outbox.errors import ConfigError
from relay.transports import FAMILIES, listed

BROKER_SCHEMES: Final = tuple(FAMILIES)
"""kombu imports whatever module a scheme names, so only these reach it."""

_DATABASE = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]+)?://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*)://", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)([^:@/?#]*):(?:.*)@", re.DOTALL)
# What stands before the first "?". In a user and a password nothing is left as it is that any library takes
# for a mark: kombu divides addresses at ";", urllib takes "[" for IPv6 and strips tabs, libpq stops at NUL.
_ESCAPED = r"%(?!00)[0-9a-f]{2}"
_WORD = rf"(?:[^@:/?#;%\[\]\x00-\x20\x7f]|{_ESCAPED})*"
_HOST = rf"(?:\[[0-9a-f:.]+(?:%[a-z0-9]+)?\]|(?:[^@/:,;?#%\[\]\x00-\x20\x7f]|{_ESCAPED})*)(?::[0-9]*)?"
_PATH = r"(?:/[^@?#\x00-\x20\x7f]*)?"
_PLAIN = {
    "broker": re.compile(rf"(?:{_WORD}(?::{_WORD})?@)?{_HOST}{_PATH}", re.IGNORECASE),
    # To libpq and SQLAlchemy, "#", ";" and brackets in a password are letters as all others.
    "database": re.compile(
        rf"(?:[^@:/?\x00-\x20\x7f]*(?::[^@:/?\x00-\x20\x7f]*)?@)?{_HOST}(?:,{_HOST})*{_PATH}", re.IGNORECASE
    ),
}
_QUERY = re.compile(r"[^@#\x00-\x20\x7f]*")
_EMBEDDED = re.compile(r"(\w://[^:@/?#\s]*):[^@\s]+@")
_SECRET = re.compile(r"((?:pass|secret|token|credential|key)[^=&]*=)[^&\s]*", re.IGNORECASE)

# Options of other drivers that share DATABASE_URL with us; libpq refuses an address that holds one.
_FOREIGN: Final = frozenset(
    {
        "async_fallback",
        "command_timeout",
        "connection_limit",
        "encoding",
        "max_cached_statement_lifetime",
        "max_cacheable_statement_size",
        "pgbouncer",
        "pool",
        "pool_timeout",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "prepared_statements",
        "schema",
        "statement_cache_size",
    },
)
# kombu knows these, with these values, and trips over any other. What others do for themselves is left out.
_ANY = re.compile(r".+")
_BROKER_OPTIONS: Final[dict[str, tuple[dict[str, re.Pattern[str]], frozenset[str]]]] = {
    "amqp": (
        {"heartbeat": re.compile(r"[0-9]+(\.[0-9]+)?")},
        frozenset(
            {
                *("backpressure_detection", "blocked_connection_timeout", "channel_max", "client_properties"),
                *("connection_attempts", "connection_timeout", "connect_timeout", "frame_max", "locale"),
                *("name", "retry_delay", "socket_timeout", "stack_timeout", "tcp_options", "timeout"),
            }
        ),
    ),
    "redis": (
        {
            "ssl_ca_certs": _ANY,
            "ssl_cert_reqs": re.compile("required|optional|none|CERT_REQUIRED|CERT_OPTIONAL|CERT_NONE"),
            "ssl_certfile": _ANY,
            "ssl_check_hostname": re.compile("true|false", re.IGNORECASE),
            "ssl_keyfile": _ANY,
            "ssl_password": _ANY,
        },
        frozenset(
            {
                *("client_name", "decode_responses", "encoding", "health_check_interval", "heartbeat"),
                *(
                    "max_connections",
                    "protocol",
                    "retry_on_timeout",
                    "socket_connect_timeout",
                    "socket_keepalive",
                ),
                *("socket_timeout", "timeout"),
            }
        ),
    ),
    "memory": ({}, frozenset()),
}
_PORTS: Final = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}
_SSL_WORDS: Final = {
    "true": "require",
    "1": "require",
    "on": "require",
    "false": "disable",
    "0": "disable",
    "off": "disable",
}


def database(url: str) -> str:
    """Return a PostgreSQL address as libpq, and so psycopg, reads it.

    Args:
        url: ``postgres://`` or ``postgresql://`` with any driver (``+asyncpg``, ``+psycopg2`` …).

    Raises:
        ConfigError: it is no address of a PostgreSQL.
    """
    scheme = _DATABASE.match(url)
    if scheme is None:
        found = _SCHEME.match(url)
        given = f"is {found[1]}://…" if found else "has no scheme"
        raise ConfigError([f"the database URL must begin with postgresql://, and this one {given}"])
    rest, _, query = url[scheme.end() :].partition("?")
    _refuse_unquoted(rest, query, "database")
    options = "&".join(filter(None, map(_option, query.split("&"))))
    address = f"postgresql://{rest}" + (f"?{options}" if options else "")
    _refuse_what_libpq_refuses(address)
    return address


def _refuse_unquoted(rest: str, query: str, what: str) -> None:
    """Refuse a password with ``@ : / ? #`` as they are: it is misread, and errors show parts of it."""
    if not _PLAIN[what].fullmatch(rest) or not _QUERY.fullmatch(query):
        _unreadable(what)


def _unreadable(what: str) -> NoReturn:
    """Say how an address is written, and nothing of what this one holds."""
    problem = (
        f"the {what} URL cannot be read: it is scheme://user:password@server:port/name; in user and password "
        "percent-encode # as %23, @ as %40, : as %3A, / as %2F, ? as %3F, ; as %3B, [ as %5B, % as %25"
    )
    raise ConfigError([problem])


def _refuse_what_libpq_refuses(url: str) -> None:
    from psycopg import ProgrammingError  # noqa: PLC0415 - libpq, which --help does not need
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    # libpq repeats what it cannot read, so its words are no part of our error, nor of its traceback; only the
    # name of an option is known to be no password.
    words = ""
    try:
        conninfo_to_dict(url)
    except (ProgrammingError, UnicodeError) as error:
        words = " ".join(str(error).split())
    if words:
        known = words.startswith("invalid URI query parameter")
        told = words if known else "is it UTF-8, and every special character quoted by %?"
        raise ConfigError([f"the database URL cannot be read: {told}"])


def _option(given: str) -> str | None:
    """Translate what asyncpg spells in its own way; leave out what only other drivers know.

    The value stays quoted as it is: libpq, unlike Python, takes a plus for a plus.
    """
    name, _, value = given.partition("=")
    if name == "ssl":
        return f"sslmode={_SSL_WORDS.get(value.lower(), value)}"
    return None if name in _FOREIGN else given


def sqlalchemy(url: str) -> str:
    """Return a PostgreSQL address as SQLAlchemy reads it, with the driver that we depend on.

    Raises:
        ConfigError: it is no address of a PostgreSQL.
    """
    return database(url).replace("postgresql://", "postgresql+psycopg://", 1)


def broker(url: str) -> str:
    """Return a broker's address (several are divided by ``;``) as kombu reads it.

    Options that other clients know and kombu does not are left out: the variable may be theirs as well.

    Raises:
        ConfigError: a scheme is not in ``BROKER_SCHEMES``, or the rest cannot be read.
    """
    parts = listed(url)
    if (
        len({"@" in part for part in parts}) > 1
    ):  # one address with ";amqp://" in its password, or not as meant
        _unreadable("broker")
    return ";".join(_one_broker(part, first=not nth) for nth, part in enumerate(parts))


def _one_broker(url: str, *, first: bool) -> str:
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1].lower() not in BROKER_SCHEMES:
        # Behind the first address, what looks like a scheme may be the half of a password.
        given = f"{scheme[1]}://" if scheme and first else "no scheme that we know"
        raise ConfigError([f"the broker URL has {given}, and may have {', '.join(BROKER_SCHEMES)}"])
    rest, _, query = url[scheme.end() :].partition("?")
    _refuse_unquoted(rest, query, "broker")
    parts = _split(url)
    if FAMILIES[parts.scheme] == "redis" and not re.fullmatch(r"/*[0-9]*", parts.path):
        raise ConfigError(["the broker URL ends with a name: a database of Redis has a number, such as /0"])
    options = _broker_options(FAMILIES[parts.scheme], query)
    return f"{scheme[0].lower()}{rest}" + (f"?{options}" if options else "")


def _split(url: str) -> SplitResult:
    """Divide a broker's address as kombu will."""
    # A port over 65535, no UTF-8, or letters that become "/" when they are normalised. The error of urllib
    # holds the password, so it is not the cause of ours.
    with suppress(ValueError):
        parts = urlsplit(url)
        url.encode()
        int(parts.port or 0)
        return parts
    _unreadable("broker")


def _broker_options(family: str, query: str) -> str:
    known, foreign = _BROKER_OPTIONS[family]
    kept = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in known and not known[name].fullmatch(value):
            raise ConfigError([f"the option {name} of the broker URL cannot have this value"])
        if name not in known and name not in foreign:
            names = f"may have {', '.join(sorted(known))}" if known else "may have none"
            raise ConfigError([f"the broker URL has an option that is not known for {family}; it {names}"])
        if name in known:
            kept.append(f"{name}={quote(value, safe='/')}")
    return "&".join(kept)


def identity(url: str) -> str:
    """Return which place at which broker an address names: equal for two spellings of the same.

    The user, and options such as ``heartbeat``, name no other place; nor do ``//``, ``/%2f`` and no path at
    all, which are the virtual host ``/`` to kombu.
    """
    return ";".join(map(_place, listed(url)))


def _place(url: str) -> str:
    parts = urlsplit(url)
    family = FAMILIES[parts.scheme]
    path = unquote(parts.path.removeprefix("/"))
    if family == "redis":
        path = str(int(path.strip("/") or 0))
    secure = parts.scheme if parts.scheme.endswith("s") else family
    port = parts.port or _PORTS.get(secure, 0)
    return f"{secure}://{(parts.hostname or 'localhost').lower()}:{port}/{quote(path or '/', safe='')}"


def masked(url: str) -> str:
    """Return an address that may be shown: passwords, and options that look like one, become ``***``."""
    return ";".join(_masked_one(part) for part in listed(url))


def _masked_one(url: str) -> str:
    # Greedy up to the last "@": a password may hold "@", ":" and "/" where somebody forgot to quote it.
    address, mark, query = _USERINFO.sub(r"\1:***@", url).partition("?")
    return address + mark + _SECRET.sub(r"\1***", query)


def scrubbed(line: str) -> str:
    """Return a line from who knows where without the passwords of addresses in it."""
    return _EMBEDDED.sub(r"\1:***@", line)
