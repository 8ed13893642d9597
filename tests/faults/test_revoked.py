"""What a role may is taken away at PostgreSQL, under load: one clear line, no storm, and all comes back."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

import pytest
from crowds import name_in_log, turned_away
from faults.collector import Collector
from faults.load import Load, Shape
from faults.plant import Plant, at_most, back, calm, last, marked, names
from psycopg import sql
from roles import role
from sqlalchemy import make_url

from outbox import grants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes

    from relay.sandbox import Postgres

LOAD = Shape(rate=200)
WRONG_ENVIRONMENT = 78


class Login(NamedTuple):
    """A role that is nobody special."""

    name: str
    password: str


@pytest.fixture
def logins(own_postgres: Postgres, own_database: Database) -> Iterator[dict[str, Login]]:
    """Roles of a relay and of a consumer, with passwords that nobody could say by chance."""
    name_in_log(own_postgres)
    with (
        role(own_database, "relay", name="relay") as relay,
        role(own_database, "consumer", name="consumer") as consumer,
    ):
        made = {
            kind: Login(one.name, secrets.token_hex(16))
            for kind, one in (("relay", relay), ("consumer", consumer))
        }
        for login in made.values():
            give_password(own_database, login)
        yield made


@pytest.fixture
def plant(
    processes: Processes,
    own_database: Database,
    logins: dict[str, Login],
    amqp_url: str,
    figures: Figures,
) -> Iterator[Plant]:
    with Collector(amqp_url) as collector:
        told = {f"{kind}_database": address(own_database, kind, login) for kind, login in logins.items()}
        made = Plant(processes, own_database, amqp_url, collector, figures, logins=told)
        own_database.execute("GRANT SELECT, INSERT ON public.effect TO PUBLIC")
        yield made
        processes.close()  # a role whose sessions are at work cannot be dropped


def address(database: Database, kind: str, login: Login) -> str:
    url = make_url(database.url).set(username=login.name, password=login.password)
    url = url.set(drivername="postgresql") if kind == "relay" else url
    return url.render_as_string(hide_password=False)


def alter(database: Database, login: Login, what: str) -> None:
    with database.connect() as connection:
        connection.execute(sql.SQL(f"ALTER ROLE {{}} {what}").format(sql.Identifier(login.name)))


def give_password(database: Database, login: Login) -> None:
    alter(database, login, f"PASSWORD '{login.password}'")


def end_sessions(database: Database, login: Login) -> None:
    database.execute(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = %s", login.name
    )


LOGIN = {
    "password": (
        lambda database, login: alter(database, login, f"PASSWORD '{secrets.token_hex(8)}'"),
        give_password,
        "password authentication failed",
    ),
    "login": (
        lambda database, login: alter(database, login, "NOLOGIN"),
        lambda database, login: alter(database, login, "LOGIN"),
        "is not permitted to log in",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("way", "seconds"),
    [
        ("password", 3),
        pytest.param("password", 60, marks=pytest.mark.exhaustive),
        pytest.param("login", 20, marks=pytest.mark.exhaustive),
    ],
)
def test_a_role_that_may_not_log_in_any_more_waits_until_it_may(
    way: str, seconds: int, plant: Plant, logins: dict[str, Login], own_postgres: Postgres
) -> None:
    take, give, words = LOGIN[way]
    plant.start()
    with Load(plant.database, LOAD) as load:
        load.wait_committed(200)
        said = marked(plant.alive)
        # The consumer first: while there are relays it gets something to do, and finds out.
        for kind, processes in (("consumer", plant.consumers), ("relay", plant.fleet.relays)):
            take(plant.database, logins[kind])
            end_sessions(plant.database, logins[kind])
            for process in processes:
                names(process, said[process], words)
        last(seconds)
        for login in logins.values():
            give(plant.database, login)
        gap = back(plant)
        load.wait_committed(100)
    report = plant.settle(load.account)
    calm(plant, said, seconds, [login.password for login in logins.values()])
    knocks = turned_away(own_postgres)
    plant.figures.say(f"refused, by the server's log: {[knocks[login.name] for login in logins.values()]}")
    # Two relays, and one more look of the leader: who has the lock now?
    assert 0 < knocks[logins["relay"].name] <= 2 * (at_most(seconds) + 1) + 1
    assert 0 < knocks[logins["consumer"].name] <= at_most(seconds) + 8
    plant.tell(
        f"{way} revoked at PostgreSQL, {seconds} s",
        "waits",
        f"waits, attempts {plant.attempts()}",
        report,
        f"{gap:.1f} s",
    )
    assert plant.attempts() == 0


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [2, 60])
def test_rights_on_tables_that_are_taken_away_end_a_relay_and_let_a_consumer_wait(
    seconds: int, plant: Plant, logins: dict[str, Login]
) -> None:
    plant.start(1)
    (relay,), (consumer,) = plant.fleet.relays, plant.consumers
    with Load(plant.database, LOAD) as load:
        load.wait_committed(200)
        said = marked(plant.alive)
        strip(plant.database, logins)
        assert relay.wait() == WRONG_ENVIRONMENT
        (told,) = relay.errors
        assert "permission denied" in told
        assert "outbox migrate" in told
        refused = names(consumer, said[consumer], "permission denied")
        last(seconds)
        for kind, login in logins.items():
            grant(plant.database, kind, login)
        plant.fleet.start(1)
        gap = back(plant)
        load.wait_committed(100)
    report = plant.settle(load.account, timeout=120)
    calm(plant, said, seconds, [login.password for login in logins.values()])
    paid = plant.attempts()
    plant.figures.say(f"relay: {told}; consumer: {refused}")
    plant.tell(
        f"rights revoked at PostgreSQL, {seconds} s",
        "exit code 78",
        f"waits, attempts {paid}",
        report,
        f"{gap:.1f} s after its restart",
    )
    assert paid == 0


def strip(database: Database, logins: dict[str, Login]) -> None:
    """Take all rights on the table of jobs away from relay and consumer, at once."""
    names_ = sql.SQL(", ").join(sql.Identifier(login.name) for login in logins.values())
    with database.connect() as connection:
        connection.execute(sql.SQL("REVOKE ALL ON outbox.job FROM {}").format(names_))


def grant(database: Database, kind: str, login: Login) -> None:
    with database.connect() as connection:
        for statement in grants.statements(login.name, kind):  # type: ignore[arg-type]
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
