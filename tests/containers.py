"""PostgreSQL and RabbitMQ in containers, where a container engine answers."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import warnings
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
from helpers import eventually

from relay import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testcontainers.core.container import DockerContainer

_PASSWORD = "in-a-container"
_START_WITHIN = 90.0


def output(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        OSError: it failed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@cache
def why_no_engine() -> str:
    """Return why there are no containers; empty where there are."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # docker's client drops its socket when nobody answers
        answer = _ask_engine()
        gc.collect()
    return answer


def _ask_engine() -> str:
    # That a docker program is installed says nothing: only an engine that answers can run anything.
    try:
        from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - takes 0.3 s to import

        DockerClient().client.ping()
    except Exception as error:  # noqa: BLE001 - docker raises its own, requests' and OSErrors
        return f"no container engine answers ({str(error).splitlines()[0][:90]})"
    return ""


class Container:
    """A server in a container, reached through a port of this machine."""

    def __init__(self, container: DockerContainer, port: int, url: str, source: str) -> None:
        self._container = container
        container.with_exposed_ports(port).start()
        try:
            where = f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
            self.url = url.format(where=where)
            self.source = source
        except BaseException:
            container.stop()
            raise

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl in the container.

        Raises:
            OSError: it failed; with what it said.
        """
        return self.run("rabbitmqctl", "--silent", *arguments)

    def run(self, *command: str) -> str:
        """Run a command in the container.

        Raises:
            OSError: it failed; with what it said.
        """
        code, said = self._container.exec(list(command))
        if code != 0:
            raise OSError(f"{' '.join(command)}: {said.decode(errors='replace').strip()}")
        text: str = said.decode()
        return text

    def close(self) -> None:
        """Remove it."""
        self._container.stop()


def _new(image: str) -> DockerContainer:
    if why := why_no_engine():
        raise sandbox.Unavailable(why)
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - needs the engine's client

    return DockerContainer(image)


def postgres() -> Container:
    """Start ``OUTBOX_TEST_POSTGRES_IMAGE``, else postgres:17.

    Raises:
        Unavailable: no container engine answers.
    """
    image = os.environ.get("OUTBOX_TEST_POSTGRES_IMAGE", "postgres:17")
    made = _new(image).with_env("POSTGRES_PASSWORD", _PASSWORD)
    made = made.with_command("postgres -c fsync=off -c max_connections=200")
    url = f"postgresql://postgres:{_PASSWORD}@{{where}}/postgres"
    return _ready(Container(made, 5432, url, f"PostgreSQL, container {image}"), _postgres_answers)


def rabbitmq() -> Container:
    """Start ``OUTBOX_TEST_RABBITMQ_IMAGE``, else rabbitmq:4.

    Raises:
        Unavailable: no container engine answers.
    """
    image = os.environ.get("OUTBOX_TEST_RABBITMQ_IMAGE", "rabbitmq:4")
    made = _new(image).with_env("RABBITMQ_DEFAULT_USER", "outbox")
    made = made.with_env("RABBITMQ_DEFAULT_PASS", _PASSWORD)
    # So that rabbitmqctl finds the node, whatever name the image would have given it.
    made = made.with_env("RABBITMQ_NODENAME", "rabbit@localhost")
    url = f"amqp://outbox:{_PASSWORD}@{{where}}//"
    return _ready(Container(made, 5672, url, f"RabbitMQ, container {image}"), _rabbitmq_answers)


def _ready(server: Container, answers: Callable[[Container], bool]) -> Container:
    try:
        eventually(lambda: answers(server), timeout=_START_WITHIN, every=0.1)
    except BaseException:
        server.close()
        raise
    return server


def _postgres_answers(server: Container) -> bool:
    try:
        psycopg.connect(server.url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _rabbitmq_answers(server: Container) -> bool:
    parts = urlsplit(server.url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
