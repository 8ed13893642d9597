"""What a user may is taken away at RabbitMQ, under load: one clear line, no storm, and all comes back."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest
from faults.collector import Collector
from faults.load import Load, Shape
from faults.plant import Plant, back, calm, last, marked, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from databases import Database
    from faults.figures import Figures
    from processes import Processes

    from relay.sandbox import RabbitMQ

LOAD = Shape(rate=200)


class User(NamedTuple):
    """A user that is no administrator, and the virtual host in which it has rights."""

    name: str
    password: str
    host: str


# Erlang, for all users in one call: rabbitmqctl needs a second or two to start.
ADD = 'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"t">>)'
CHANGE = 'rabbit_auth_backend_internal:change_password(<<"{name}">>, <<"{password}">>, <<"t">>)'
SPOIL = 'rabbit_auth_backend_internal:change_password(<<"{name}">>, <<"another">>, <<"t">>)'
DELETE = 'rabbit_auth_backend_internal:delete_user(<<"{name}">>, <<"t">>)'
ALLOW = (
    'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"{host}">>, <<".*">>, <<".*">>, <<".*">>, '
    '<<"t">>)'
)
READ_ONLY = ALLOW.replace('<<".*">>', '<<"">>', 2)
"""Neither to configure nor to write."""
CLEAR = 'rabbit_auth_backend_internal:clear_permissions(<<"{name}">>, <<"{host}">>, <<"t">>)'
CLOSE = 'rabbit_networking:close_all_user_connections(<<"{name}">>, <<"tests">>)'

WAYS = {
    "password": ((SPOIL, CLOSE), (CHANGE,), "ACCESS_REFUSED", "ACCESS_REFUSED"),
    "user": ((DELETE, CLOSE), (ADD, ALLOW), "ACCESS_REFUSED", "ACCESS_REFUSED"),
    "virtual host": ((CLEAR, CLOSE), (ALLOW,), "refused", "refused"),
    "write": ((READ_ONLY, CLOSE), (ALLOW,), "ACCESS_REFUSED", "ACCESS_REFUSED"),
}
"""What is done, what undoes it, and what relay and consumer then say."""


def do(server: RabbitMQ, users: Mapping[str, User], *actions: str) -> None:
    """Do something to each user."""
    told = [action.format(**user._asdict()) for action in actions for user in users.values()]
    server.ctl("eval", ", ".join(told) + ".")


@pytest.fixture
def users(own_rabbitmq: RabbitMQ, own_amqp_url: str) -> Iterator[dict[str, User]]:
    host = urlsplit(own_amqp_url).path[1:]
    made = {
        kind: User(f"{kind}-{secrets.token_hex(4)}", secrets.token_hex(16), host)
        for kind in ("relay", "consumer")
    }
    do(own_rabbitmq, made, ADD, ALLOW)
    yield made
    do(own_rabbitmq, made, DELETE)


@pytest.fixture
def plant(
    processes: Processes,
    database: Database,
    users: dict[str, User],
    own_amqp_url: str,
    figures: Figures,
) -> Iterator[Plant]:
    with Collector(own_amqp_url) as collector:
        told = {f"{kind}_broker": address(own_amqp_url, user) for kind, user in users.items()}
        yield Plant(processes, database, own_amqp_url, collector, figures, logins=told)


def address(url: str, user: User) -> str:
    parts = urlsplit(url)
    server = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user.name}:{user.password}@{server}").geturl()


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("way", "seconds"),
    [
        ("password", 3),
        *((way, 60) for way in WAYS),
    ],
)
def test_a_user_that_is_refused_waits_until_it_is_let_in(
    way: str, seconds: int, plant: Plant, users: dict[str, User], own_rabbitmq: RabbitMQ
) -> None:
    take, give, of_relay, of_consumer = WAYS[way]
    plant.start()
    leader = plant.fleet.wait_leader()
    with Load(plant.database, LOAD) as load:
        load.wait_committed(200)
        said, began = marked(plant.alive), time.monotonic()
        do(own_rabbitmq, users, *take)
        lines = [names(leader.process, said[leader.process], of_relay)]
        lines += [names(consumer, said[consumer], of_consumer) for consumer in plant.consumers]
        last(seconds)
        do(own_rabbitmq, users, *give)
        gap, lasted = back(plant), time.monotonic() - began
        load.wait_committed(100)
    report = plant.settle(load.account, timeout=120)
    plant.figures.say(f"relay: {lines[0]}; consumer: {lines[1]}")
    calm(plant, said, lasted, [user.password for user in users.values()])
    paid = plant.attempts()
    plant.tell(
        f"{way} revoked at RabbitMQ, {seconds} s", "waits", f"waits, attempts {paid}", report, f"{gap:.1f} s"
    )
    assert paid == 0
    assert len(plant.alive) == len(said)
    # Who leads makes way once, if the other one is let in first.
    assert len(plant.fleet.events("leadership_gained")) <= 2
