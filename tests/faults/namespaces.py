"""A network namespace with one line to our servers: whatever is done to that line is done to nothing else.

The servers of the tests listen on 127.0.0.1. A process in the namespace reaches them by the address of the
line's outer end, and the kernel rewrites it: each connection is one, from the process to the server itself,
with no proxy between that would answer for a peer that is gone.

Nothing outlives us, however we end. The namespace is held by a process that reads from a pipe of ours, the
rules belong to another one, and the kernel takes both away when the pipes close.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from helpers import eventually

from relay.sandbox import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ("ip", "nft", "nsenter", "tc", "unshare")
TUN = Path("/dev/net/tun")
WIRE = Path(__file__).with_name("wire.py")
LOOPBACK = "127.0.0.1"

# Packets are lost where they arrive, as on a line: dropped where they leave, the sender's kernel would know.
# What comes back from a server on 127.0.0.1 passes the same rules backwards.
RULES = """
add table ip {name} {{ flags owner; }}
add set ip {name} severed {{ type inet_service; }}
add chain ip {name} arriving {{ type filter hook prerouting priority -300; }}
add rule ip {name} arriving iifname {outer} tcp dport @severed drop
add chain ip {name} to_servers {{ type nat hook prerouting priority -100; }}
add rule ip {name} to_servers iifname {outer} ip daddr {host} dnat to 127.0.0.1
add chain ip {name} from_inside {{ type nat hook input priority 100; }}
add rule ip {name} from_inside ip saddr {guest} snat to 127.0.0.1
add chain ip {name} from_here {{ type nat hook output priority -100; }}
add rule ip {name} from_here ip daddr {host} dnat to 127.0.0.1
add chain ip {name} as_from_here {{ type nat hook postrouting priority 100; }}
add rule ip {name} as_from_here ip saddr {host} ip daddr 127.0.0.1 snat to 127.0.0.1
"""
RULES_INSIDE = """
add table ip line
add set ip line severed {{ type inet_service; }}
add chain ip line arriving {{ type filter hook prerouting priority -300; }}
add rule ip line arriving iifname {inner} tcp sport @severed drop
"""


class Quality(NamedTuple):
    """How bad a line is, each way.

    Args:
        delay: seconds that a packet travels.
        jitter: seconds more or less, at random; packets do not overtake each other.
        loss: the share of the packets that do not arrive.
    """

    delay: float
    jitter: float
    loss: float


class Namespace:
    """A namespace and its line; use :func:`namespace` to make one.

    Args:
        stack: ends what was started.
        quality: of the line; None: as good as the kernel's.
    """

    def __init__(self, stack: ExitStack, quality: Quality | None = None) -> None:
        self.name = f"ob{secrets.token_hex(4)}"
        self._outer, self._inner = f"{self.name}h", f"{self.name}g"
        block = f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        first = 4 * secrets.randbelow(64)
        self.host, self.guest = f"{block}.{first + 1}", f"{block}.{first + 2}"
        self.source = "of our own"
        """For people."""
        self._stack = stack
        self._pid = self._hold()
        if quality is None:
            peer = ("peer", "name", self._inner, "netns", self._pid)
            run("ip", "link", "add", self._outer, "type", "veth", *peer)
        else:
            self._lay_wire(quality)
        self._set_up()

    def enter(self) -> tuple[str, ...]:
        """Return what goes in front of a command that is to run inside."""
        return ("nsenter", f"--net=/proc/{self._pid}/ns/net", "--")

    def to(self, url: str) -> str:
        """Return the address by which a server of ours is reached from inside, and from here.

        Raises:
            Unavailable: it is no server of this machine's 127.0.0.1.
        """
        parts = urlsplit(url)
        if parts.hostname not in (LOOPBACK, "localhost"):
            raise Unavailable(f"{parts.hostname} is not this machine's own address, to which the line leads")
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{self.host}:{parts.port}").geturl()

    def sever(self, *urls: str) -> None:
        """Lose every packet between the inside and these servers, both ways, and tell nobody."""
        ports = ", ".join(str(urlsplit(url).port) for url in urls)
        self._change(f"add element ip {self.name} severed {{ {ports} }}")
        run(*self.enter(), "nft", f"add element ip line severed {{ {ports} }}")
        eventually(lambda: all(str(urlsplit(url).port) in self._severed() for url in urls))

    def heal(self) -> None:
        """Undo :meth:`sever`."""
        run(*self.enter(), "nft", "flush set ip line severed")
        self._change(f"flush set ip {self.name} severed")
        eventually(lambda: "elements" not in self._severed())

    def narrow(self, rate: str) -> None:
        """Let no more through than a rate, such as ``80kbit``, each way; what waits for long is lost."""
        bucket = ("root", "tbf", "rate", rate, "burst", "4k", "latency", "400ms")
        run("tc", "qdisc", "replace", "dev", self._outer, *bucket)
        run(*self.enter(), "tc", "qdisc", "replace", "dev", self._inner, *bucket)

    def _hold(self) -> str:
        """Start the process that is the namespace's life, and return its id."""
        holder = self._stack.enter_context(piped("unshare", "--net", "cat"))
        ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{holder.pid}/ns/net")
        eventually(lambda: alive(holder) and theirs.readlink() != ours.readlink())
        return str(holder.pid)

    def _lay_wire(self, quality: Quality) -> None:
        names = (self._pid, self._outer, self._inner)
        wire = self._stack.enter_context(piped(sys.executable, WIRE, *names, *map(str, quality)))
        eventually(lambda: alive(wire) and self._inner in run(*self.enter(), "ip", "link"))

    def _set_up(self) -> None:
        run("ip", "address", "add", f"{self.host}/30", "dev", self._outer)
        run("ip", "link", "set", self._outer, "up")
        inside = partial(run, *self.enter())
        inside("ip", "link", "set", "lo", "up")
        inside("ip", "address", "add", f"{self.guest}/30", "dev", self._inner)
        inside("ip", "link", "set", self._inner, "up")
        inside("nft", RULES_INSIDE.format(inner=self._inner))
        # Else what arrives for 127.0.0.1 from elsewhere is a lie, and dropped. It is of this device alone.
        Path("/proc/sys/net/ipv4/conf", self._outer, "route_localnet").write_text("1")
        self._rules = self._stack.enter_context(piped("nft", "--interactive"))
        names = {"name": self.name, "outer": self._outer, "host": self.host, "guest": self.guest}
        self._change(RULES.format(**names))
        last = ("list", "chain", "ip", self.name, "as_from_here")
        eventually(lambda: alive(self._rules) and "snat" in run("nft", *last, check=False))

    def _change(self, lines: str) -> None:
        """Have the process that owns the rules change them."""
        assert self._rules.stdin is not None
        self._rules.stdin.write(lines.strip() + "\n")
        self._rules.stdin.flush()

    def _severed(self) -> str:
        return run("nft", "list", "set", "ip", self.name, "severed")


@contextmanager
def namespace(quality: Quality | None = None) -> Iterator[Namespace]:
    """Make a namespace, and remove it with its line and its rules.

    Args:
        quality: of the line; None: as good as the kernel's.

    Raises:
        Unavailable: we may not, or a tool is missing; the text says which.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        raise Unavailable(f"root and {', '.join(TOOLS)} are needed; missing: {', '.join(missing) or 'root'}")
    if quality is not None and not TUN.exists():
        raise Unavailable(f"a bad line needs {TUN}")
    with ExitStack() as stack:
        yield Namespace(stack, quality)


@contextmanager
def piped(*argv: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program that ends when its standard input does, which is when we end at the latest."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=10)


def alive(process: subprocess.Popen[str]) -> bool:
    """Return that it lives.

    Raises:
        Unavailable: it does not; with what it said.
    """
    if process.poll() is not None:
        said = process.stderr.read().strip() if process.stderr else ""
        raise Unavailable(f"{process.args[0]} ended: {said}")  # type: ignore[index]
    return True


def run(*argv: str, check: bool = True) -> str:
    """Run a program to its end, and return what it printed.

    Raises:
        Unavailable: it failed; with what it said.
    """
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    if check and done.returncode:
        raise Unavailable(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
