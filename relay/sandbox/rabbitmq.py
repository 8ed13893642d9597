"""A private RabbitMQ, with an Erlang port mapper of its own."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

from relay.sandbox import accounts, binaries
from relay.sandbox.server import Server, clean_environment, command, password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PROTOCOL = b"AMQP\x00\x00\x09\x01"
_VERSION = re.compile(rb"\x07versionS\x00\x00\x00.([0-9.]+)", re.DOTALL)
_ERL = "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
_SETTINGS = {
    "default_user": "outbox",
    "disk_free_limit.absolute": "50MB",
    "log.console": "true",
    "log.console.level": "warning",
    "log.file": "false",
}


class RabbitMQ(Server):
    """One RabbitMQ node in a folder, under the account of its parent (also root).

    Args:
        folder: for data, log and Erlang's cookie.
        settings: lines of rabbitmq.conf beside ours, which they override.

    Raises:
        Unavailable: there is no RabbitMQ or no Erlang.
    """

    name: ClassVar[str] = "RabbitMQ"
    start_within: ClassVar[float] = 120.0
    port_count: ClassVar[int] = 3  # AMQP, Erlang's port mapper, Erlang's distribution

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._program, self._epmd = binaries.rabbitmq(), binaries.epmd()
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self._password = password(folder / "password")
        self._settings = {**_SETTINGS, "default_pass": self._password, **(settings or {})}
        self._version = ""

    @property
    def url(self) -> str:
        """``amqp://…`` of an administrator and the virtual host ``/``."""
        return self.url_of("/")

    def url_of(self, virtual_host: str) -> str:
        """``amqp://…`` of an administrator and a virtual host."""
        return f"amqp://outbox:{self._password}@127.0.0.1:{self.port}/{virtual_host}"

    @property
    def source(self) -> str:
        """Version and folder of the programs."""
        return f"RabbitMQ {self._version}, {self._program.parent}"

    def ctl(self, *arguments: str, within: float = 60.0) -> str:
        """Run ``rabbitmqctl`` against this node.

        Args:
            arguments: the command and its arguments.
            within: seconds.

        Returns:
            What it printed, without headings.

        Raises:
            OSError: it failed; the text is what it said.
        """
        done = subprocess.run(
            [self._program.parent / "rabbitmqctl", "--silent", *arguments],
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
        )
        if done.returncode != 0:
            raise OSError(f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _prepare(self) -> None:
        lines = [f"{name} = {value}" for name, value in self._settings.items()]
        (self.folder / "rabbitmq.conf").touch(mode=0o600)
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.parent.mkdir(exist_ok=True)
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)  # Erlang refuses a cookie that others may read

    def _environment(self) -> dict[str, str]:
        amqp, mapper, distribution = map(str, self.ports)
        return clean_environment(
            ERL_EPMD_ADDRESS="127.0.0.1",
            ERL_EPMD_PORT=mapper,
            HOME=str(self.folder / "home"),
            LC_ALL="C.UTF-8",
            RABBITMQ_CONFIG_FILE=str(self.folder / "rabbitmq.conf"),
            RABBITMQ_CONF_ENV_FILE=str(self.folder / "no-rabbitmq-env.conf"),
            RABBITMQ_DIST_PORT=distribution,
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.folder / "enabled_plugins"),
            RABBITMQ_LOG_BASE=str(self.folder / "logs"),
            RABBITMQ_MNESIA_BASE=str(self.folder / "data"),
            RABBITMQ_NODENAME="sandbox@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=amqp,
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=_ERL,
            # The start script then becomes Erlang instead of waiting beside it: our signals reach Erlang
            # itself.
            RUNNING_UNDER_SYSTEMD="true",
        )

    def _commands(self) -> list[dict[str, Any]]:
        ours, env = accounts.ours(), self._environment()
        # In the foreground and ours: the one that Erlang starts by itself detaches, and outlives everything.
        mapper = command(
            [self._epmd, "-port", str(self.ports[1]), "-address", "127.0.0.1"], env, self.folder, ours
        )
        return [mapper, command([self._program], env, self.folder, ours)]

    def _knock(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(_PROTOCOL)
            greeting = connection.recv(4096)
        found = _VERSION.search(greeting)
        if not found:
            raise ConnectionError("no AMQP greeting")
        self._version = found[1].decode()

    def _last_words(self, said: str) -> str:
        # After its reason it goes on for a hundred lines.
        return super()._last_words(said.partition("BOOT FAILED")[0])
