"""A bad line: carries packets between two network devices that it makes, late, and not all of them.

``python wire.py PID OUTER INNER DELAY JITTER LOSS`` makes the device OUTER here and INNER in the network
namespace of process PID, and ends, with both of them, when its standard input does. Not every kernel has
netem, which does the same; a device whose packets a program handles has every kernel that has containers.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LARGEST = 65_536


def device(name: str) -> int:
    """Make a network device, and return the file of its packets."""
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(made, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return made


def enter(pid: str) -> None:
    """Move into the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Way:
    """One direction.

    Args:
        source: where packets come from.
        target: where they go.
        quality: delay and jitter in seconds, and the share that is lost.
    """

    def __init__(self, source: int, target: int, quality: tuple[float, float, float]) -> None:
        self.source, self._target = source, target
        self._delay, self._jitter, self._loss = quality
        self._travelling: deque[tuple[float, bytes]] = deque()
        self._latest = 0.0

    def take(self) -> None:
        """Send all that is there on its way."""
        try:
            while packet := os.read(self.source, LARGEST):
                if random.random() >= self._loss:
                    due = time.monotonic() + self._delay + random.uniform(-self._jitter, self._jitter)
                    self._latest = max(self._latest, due)
                    self._travelling.append((self._latest, packet))
        except BlockingIOError:
            pass

    def arrive(self) -> float:
        """Hand over what is due; return the seconds until the next one is."""
        while self._travelling and self._travelling[0][0] <= time.monotonic():
            try:
                os.write(self._target, self._travelling.popleft()[1])
            except OSError:  # a device that is down: the packet is lost
                continue
        return self._travelling[0][0] - time.monotonic() if self._travelling else 60.0


def main(pid: str, outer: str, inner: str, *quality: str) -> None:
    """Carry packets until standard input ends."""
    delay, jitter, loss = map(float, quality)
    here = device(outer)
    enter(pid)
    there = device(inner)
    ways = [Way(*ends, (delay, jitter, loss)) for ends in ((here, there), (there, here))]
    while True:
        wait = max(0.0, min(way.arrive() for way in ways))
        ready, _, _ = select.select([here, there, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            return
        for way in ways:
            if way.source in ready:
                way.take()


if __name__ == "__main__":
    main(*sys.argv[1:])
