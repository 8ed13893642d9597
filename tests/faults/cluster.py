"""Three RabbitMQ nodes on one machine that are one cluster: each can be killed, frozen and cut off."""

from __future__ import annotations

import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from brokers import VirtualHosts
from helpers import eventually

from relay.sandbox import RabbitMQ, Server, accounts, binaries
from relay.sandbox.server import clean_environment, command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = ("one", "two", "three")
TICK = 4
"""Seconds of silence after which a node takes another for dead, a quarter more or less; Erlang's own: 60."""
_STRANGE = "no_cookie_of_ours"


class Mapper(Server):
    """Erlang's port mapper by itself: it has to outlive each node that is killed.

    Args:
        folder: for its log.
    """

    name: ClassVar[str] = "epmd"

    def __init__(self, folder: Path) -> None:
        self._program = binaries.epmd()
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def source(self) -> str:
        """The program."""
        return str(self._program)

    def _prepare(self) -> None:
        """It reads nothing."""

    def _commands(self) -> list[dict[str, Any]]:
        arguments = [self._program, "-port", str(self.port), "-address", "127.0.0.1"]
        return [command(arguments, clean_environment(), self.folder, accounts.ours())]

    def _knock(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), timeout=2).close()


class Node(RabbitMQ):
    """One node of a cluster.

    Args:
        folder: for data, log, and the cookie that all of them share.
        name: before the ``@``.
        mapper: through which the nodes find each other.
    """

    def __init__(self, folder: Path, name: str, mapper: Mapper) -> None:
        self.node, self._mapper = f"{name}@localhost", mapper
        first = {"cluster_formation.classic_config.nodes.1": f"{NAMES[0]}@localhost"}
        super().__init__(
            folder, settings={"cluster_formation.peer_discovery_backend": "classic_config", **first}
        )

    def _environment(self) -> dict[str, str]:
        ours = super()._environment()
        arguments = f"{ours['RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS']} -kernel net_ticktime {TICK}"
        return ours | {
            "ERL_EPMD_PORT": str(self._mapper.port),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": arguments,
        }

    def _commands(self) -> list[dict[str, Any]]:
        return super()._commands()[-1:]


class Cluster:
    """A cluster, while the context is open. Each node has a keeper of its own: nothing outlives the test run.

    Args:
        folder: for all of them.

    Raises:
        Unavailable: there is no RabbitMQ or no Erlang.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._mapper = self._stack.enter_context(Mapper(folder / "epmd"))
        shared = {"password": secrets.token_hex(16), "home/.erlang.cookie": secrets.token_hex(16)}
        for name in NAMES:
            for file, text in shared.items():
                (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / name / file).touch(mode=0o600)
                (folder / name / file).write_text(text)
        self.nodes = [self._stack.enter_context(Node(folder / name, name, self._mapper)) for name in NAMES]

    def __enter__(self) -> Self:
        try:
            self._mapper.start()
            self.mend()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all of it."""
        self._stack.close()

    @property
    def url(self) -> str:
        """``amqp://…`` of the first node."""
        return self.nodes[0].url

    @property
    def source(self) -> str:
        """Version and folder of the programs."""
        return f"three nodes of {self.nodes[0].source}"

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against the first node."""
        return self.nodes[0].ctl(*arguments)

    def mend(self) -> None:
        """Have every node run, and wait until each knows the others."""
        for node in self.nodes:
            node.resume()
        self.nodes[0].start()  # alone: two that begin at once could each found a cluster
        self.start(*self.nodes[1:])
        try:
            eventually(self._whole, 10, every=0.5)
        except AssertionError:  # a node that was frozen may never notice that the others gave it up
            for node in self.nodes[1:]:
                node.kill()
            self.start(*self.nodes[1:])
            eventually(self._whole, 60, every=0.5)

    def start(self, *nodes: Node) -> None:
        """Start nodes side by side, and wait until they answer."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(Node.start, nodes))

    def handle_partitions(self, how: str) -> None:
        """Set ``cluster_partition_handling`` in all of them, until they are started again."""
        everywhere = f"[rpc:call(N, application, set_env, [rabbit, cluster_partition_handling, {how}])"
        self.ctl("eval", f"{everywhere} || N <- [node() | nodes()]].")

    def cut_off(self, node: Node) -> None:
        """Part a node from the others: it refuses their connections, and they its own."""
        self._cookies(node, f'<<"{_STRANGE}">>')
        others = ", ".join(f"'{other.node}'" for other in self.nodes if other is not node)
        node.ctl("eval", f"[erlang:disconnect_node(N) || N <- [{others}]].")

    def join_again(self, node: Node) -> None:
        """Undo :meth:`cut_off`."""
        self._cookies(node, "atom_to_binary(erlang:get_cookie())")

    def _cookies(self, node: Node, cookie: str) -> None:
        others = ", ".join(f"'{other.node}'" for other in self.nodes if other is not node)
        node.ctl("eval", f"[erlang:set_cookie(N, binary_to_atom({cookie})) || N <- [{others}]].")

    def virtual_host(self) -> list[str]:
        """Make a virtual host; return its ``amqp://…`` on each node."""
        path = urlsplit(VirtualHosts(self, at_once=1).next_url()).path[1:]
        return [node.url_of(path) for node in self.nodes]

    def crash_proof(self, url: str, *queues: str) -> None:
        """Wait until each member of these quorum queues is known after a SIGKILL, see ``brokers.py``."""
        names = [f"{urlsplit(url).path[1:]}_{queue}".encode() for queue in queues]
        lists = [file for node in self.nodes for file in node.folder.glob("data/*/quorum/*/names.dets")]
        assert len(lists) == len(self.nodes)
        eventually(lambda: all(name in file.read_bytes() for name in names for file in lists), 20)

    def leader(self, url: str, queue: str) -> Node:
        """Return the node of a quorum queue's leader, as the cluster's tables have it."""
        name = f'rabbit_misc:r(<<"{urlsplit(url).path[1:]}">>, queue, <<"{queue}">>)'
        told = self.ctl(
            "eval", f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), {{_, N}} = amqqueue:get_pid(Q), N."
        )
        return next(node for node in self.nodes if node.node in told)

    def _whole(self) -> bool:
        told = self.ctl("eval", "lists:sort(rabbit_mnesia:cluster_nodes(running)).")
        return all(node.node in told for node in self.nodes)


def addresses(urls: Sequence[str], first: int) -> str:
    """Return a relay's setting of all nodes' addresses, beginning with one of them."""
    return ";".join([*urls[first:], *urls[:first]])
