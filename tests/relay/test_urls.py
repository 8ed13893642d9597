"""Addresses as people give them, as libraries want them, and as they may be shown."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu.connection import Connection
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from outbox.errors import ConfigError
from relay import urls
from relay.transports import listed

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:p@h:5433/d",
        "postgres://u:p@h:5433/d",
        "postgresql+psycopg://u:p@h:5433/d",
        "postgresql+psycopg2://u:p@h:5433/d",
        "postgresql+asyncpg://u:p@h:5433/d",
        "POSTGRESQL+PG8000://u:p@h:5433/d",
        "postgresql+asyncpg://u:p@h:5433/d?prepared_statement_cache_size=0&pgbouncer=true&schema=public",
    ],
)
def test_any_postgresql_address_is_read(given: str) -> None:
    assert urls.database(given) == "postgresql://u:p@h:5433/d"
    assert make_url(urls.sqlalchemy(given)).get_driver_name() == "psycopg"


@pytest.mark.parametrize(
    ("ssl", "mode"),
    [
        ("require", "require"),
        ("true", "require"),
        ("verify-full", "verify-full"),
        ("disable", "disable"),
        ("0", "disable"),
    ],
)
def test_ssl_becomes_sslmode(ssl: str, mode: str) -> None:
    assert urls.database(f"postgresql+asyncpg://h/d?ssl={ssl}") == f"postgresql://h/d?sslmode={mode}"


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://h1:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/d",
        "postgresql://u:p%40ss%3A%2F@[::1]:5432/d",
        "postgresql://",
        "postgresql://u:p@h/d?options=-c%20search_path%3Da",
    ],
)
def test_what_libpq_can_read_stays_what_it_means(given: str) -> None:
    assert conninfo_to_dict(urls.database(given)) == conninfo_to_dict(given)


@pytest.mark.parametrize("given", ["mysql://h/d", "h:5432/d", "sqlite:///x.db", "", "dbname=x user=y"])
def test_another_database_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="must begin with postgresql://"):
        urls.database(given)


@pytest.mark.parametrize(
    "password",
    [
        f"{CANARY}@x",
        f"{CANARY}:x",
        f"{CANARY}/x",
        f"{CANARY}?x",
        f"a@{CANARY}/x",
        f"1?{CANARY}=1",
        f"1/{CANARY}",
    ],
)
def test_an_unquoted_password_is_refused_and_not_repeated(password: str) -> None:
    for read, scheme in ((urls.database, "postgresql"), (urls.broker, "amqp")):
        with pytest.raises(ConfigError, match="%40") as caught:
            read(f"{scheme}://u:{password}@h/d")
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "password", [f"{CANARY}#x", f"x;{CANARY}", f"[{CANARY}]", f"{CANARY}%", f"x;{CANARY}://x", f"{CANARY}\t"]
)
def test_what_kombu_would_misread_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        urls.broker(f"amqp://u:{password}@h/d")
    assert CANARY not in str(caught.value)


# Marks of addresses, quoted ones, letters that become a "/" when normalised, what is no UTF-8, and any other.
TEXTS = st.text(
    st.one_of(st.sampled_from("@:/?#;%[]&=+, \t\0\x7f\udc80\u2100éa10"), st.characters()), max_size=6
) | st.sampled_from(["%40", "%00", "%ff", "%zz", ";amqp://", "://", "//", "?password=", "1:2"])


def parsed(read: Callable[[str], str], address: str) -> str | None:
    """Return the address as it was read; None: it was refused with no word of the password."""
    try:
        return read(address)
    except ConfigError as error:
        told = "".join(traceback.format_exception(error))
    assert CANARY not in told
    return None


@settings(max_examples=300)
@example("", "#x", "//")
@example("1?", "=1", "/d")
@given(TEXTS, TEXTS, TEXTS)
def test_a_brokers_address_is_read_as_it_was_meant_or_refused(before: str, after: str, end: str) -> None:
    password = f"{before}{CANARY}{after}"
    found = parsed(urls.broker, f"amqp://u:{password}@h:5672{end}")
    parts = listed(found) if found else []
    if len(parts) == 1:  # what looks like several addresses is read as several
        connection = Connection(parts[0])
        assert (connection.userid, connection.password) == ("u", unquote(password))
        assert CANARY not in urls.masked(parts[0])


@settings(max_examples=300)
@example("1?", "=1", "/d")
@given(TEXTS, TEXTS, TEXTS)
def test_a_databases_address_is_read_as_it_was_meant_or_refused(before: str, after: str, end: str) -> None:
    password = f"{before}{CANARY}{after}"
    found = parsed(urls.database, f"postgresql://u:{password}@h:5432{end}")
    if found is not None and "password=" not in end:
        assert conninfo_to_dict(found)["password"] == unquote(password)


@settings(max_examples=300)
@given(
    st.sampled_from(["amqp://", "redis://", "postgresql://", "memory://", ""]), st.lists(TEXTS, max_size=6)
)
def test_any_text_is_an_address_or_refused(scheme: str, words: list[str]) -> None:
    address = scheme + "".join(words)
    if (found := parsed(urls.broker, address)) is not None:
        assert all(Connection(part).transport_cls for part in listed(found))
    if (found := parsed(urls.database, address)) is not None:
        assert isinstance(conninfo_to_dict(found), dict)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("amqp://h//?heartbeat=5&blocked_connection_timeout=9", "amqp://h//?heartbeat=5"),
        ("AMQPS://u:P@h/V", "amqps://u:P@h/V"),
        ("rediss://h/1?ssl_ca_certs=/a%20b&socket_timeout=3", "rediss://h/1?ssl_ca_certs=/a%20b"),
    ],
)
def test_options_of_other_clients_are_left_out(given: str, read: str) -> None:
    assert urls.broker(given) == read


@pytest.mark.parametrize(
    "given",
    [
        f"amqp://h/v?{CANARY}=1",
        f"redis://h/0?password={CANARY}",
        f"amqp://h?heartbeat={CANARY}",
        "redis://h/shop",
    ],
)
def test_what_kombu_trips_over_is_refused(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        urls.broker(given)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "amqp://guest:guest@localhost:5672//",
        "amqps://u:p%2F@h/v",
        "pyamqp://h",
        "amqp://u:p@h1;amqp://u:p@h2",
        "redis://:p@h:6379/0",
        "rediss://h:6380/1?ssl_cert_reqs=required",
        "redis://:p@h:26379/0;redis://:p@h2:26379/0",
        "memory://",
    ],
)
def test_brokers_that_may_be_named(given: str) -> None:
    assert urls.broker(given) == given


@pytest.mark.parametrize(
    "given",
    [
        "os.path:join://h",
        "tests.urls:T://h",
        "sqs://k:s@",
        "filesystem://",
        "localhost:5672",
        "amqp://h;x.y://h",
    ],
)
def test_an_address_imports_nothing_and_names_no_other_transport(given: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="may have amqp"):
        urls.broker(given)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"amqp://u:{CANARY}@h/v", "amqp://u:***@h/v"),
        (f"redis://:{CANARY}@h/0", "redis://:***@h/0"),
        (f"amqp://u:{CANARY}@h1;amqp://u:{CANARY}@h2", "amqp://u:***@h1;amqp://u:***@h2"),
        (f"amqp://u:{CANARY}/@:{CANARY}@h/v", "amqp://u:***@h/v"),
        (f"amqp://u:x;{CANARY}@h/v", "amqp://u:***@h/v"),
        (f"redis://h/0?password={CANARY}&db=1", "redis://h/0?password=***&db=1"),
        (f"rediss://h/0?ssl_keyfile_password={CANARY}", "rediss://h/0?ssl_keyfile_password=***"),
        ("amqp://h/v", "amqp://h/v"),
    ],
)
def test_what_is_shown_has_no_secret(given: str, shown: str) -> None:
    assert urls.masked(given) == shown


def test_an_address_inside_a_line_is_scrubbed() -> None:
    line = f"cannot reach amqp://shop:{CANARY}@mq/v and postgresql://shop:{CANARY}@db/shop, giving up"
    assert (
        urls.scrubbed(line)
        == "cannot reach amqp://shop:***@mq/v and postgresql://shop:***@db/shop, giving up"
    )


@pytest.mark.parametrize(
    ("one", "others"),
    [
        (
            "amqp://guest:guest@h",
            ["amqp://h/", "amqp://h//", "amqp://H:5672/%2f?heartbeat=5", "pyamqp://h//"],
        ),
        ("amqp://h/v", ["amqp://u:p@h/v", "amqp://h/v?heartbeat=5"]),
        ("redis://h", ["redis://h/0", "redis://:p@h:6379//"]),
        ("amqp://h1;amqp://h2", ["amqp://h1//;amqp://h2/%2F"]),
    ],
)
def test_two_spellings_name_one_place(one: str, others: list[str]) -> None:
    assert {urls.identity(each) for each in others} == {urls.identity(one)}


def test_other_places_are_told_apart() -> None:
    places = [
        *(
            "amqp://h",
            "amqp://h/v",
            "amqp://h//v",
            "amqp://h:5673",
            "amqps://h",
            "amqp://h2",
            "amqp://h;amqp://h2",
        ),
        *("redis://h", "redis://h/1", "rediss://h", "memory://"),
    ]
    assert len({urls.identity(each) for each in places}) == len(places)
