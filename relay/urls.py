"""Understands the two addresses that people give us: the database's and the broker's.

Rewrites what another driver's spelling would break, shows an address without its secrets, and knows which
brokers may be named. Opens no connection, and imports no module that an address names.
"""

from __future__ import annotations

import re
from typing import Final

from outbox.errors import ConfigError
from relay.transports import FAMILIES, listed

BROKER_SCHEMES: Final = tuple(FAMILIES)
"""kombu imports whatever module a scheme names, so only these reach it."""

_DATABASE = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]+)?://", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*)://", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)([^:@/?#]*):(?:.*)@", re.DOTALL)
_HOST = r"(?:\[[0-9a-f:.%]+\]|[^@/:,\[\]]*)(?::\d*)?"
_PLAIN = re.compile(rf"(?:[^@/:]*(?::[^@/:]*)?@)?{_HOST}(?:,{_HOST})*(?:/[^@]*)?", re.IGNORECASE)
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
    _refuse_unquoted(rest, "database")
    options = "&".join(filter(None, map(_option, query.split("&"))))
    return f"postgresql://{rest}" + (f"?{options}" if options else "")


def _refuse_unquoted(rest: str, what: str) -> None:
    """Refuse a password with ``@ : / ?`` as they are: it is misread, and errors show parts of it."""
    if not _PLAIN.fullmatch(rest):
        problem = (
            f"the {what} URL cannot be read: it is scheme://user:password@server:port/name, "
            "and @ : / ? # in user or password are written as %40 %3A %2F %3F %23"
        )
        raise ConfigError([problem])


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
    """Return a broker's address (several are divided by ``;``) after a look at its schemes.

    Raises:
        ConfigError: a scheme is not in ``BROKER_SCHEMES``.
    """
    for part in listed(url):
        scheme = _SCHEME.match(part)
        if scheme is None or scheme[1].lower() not in BROKER_SCHEMES:
            given = f"{scheme[1]}://" if scheme else "no scheme"
            raise ConfigError([f"the broker URL has {given}, and may have {', '.join(BROKER_SCHEMES)}"])
        _refuse_unquoted(part[scheme.end() :].partition("?")[0], "broker")
    return url


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
