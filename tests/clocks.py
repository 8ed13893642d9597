"""A PostgreSQL whose clock on the wall can be set: a few lines of C stand between it and the kernel."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from relay import sandbox

if TYPE_CHECKING:
    from pathlib import Path

_SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *fast;

__attribute__((constructor)) static void look(void) {
    const char *path = getenv("OUTBOX_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *seen = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    fast = seen == MAP_FAILED ? 0 : seen;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, which, now);
    if (result == 0 && fast && which == CLOCK_REALTIME) now->tv_sec += *fast;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *told) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (told) *told = exact.tv_sec;
    return exact.tv_sec;
}
"""


class ClockedPostgres(sandbox.Postgres):
    """A PostgreSQL with a clock to set.

    Args:
        folder: for data and log, and for what is compiled.

    Raises:
        Unavailable: there is no compiler, or it makes nothing that runs here.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._library, self._hand = folder / "clock.so", folder / "clock"
        compiler = shutil.which("cc")
        if compiler is None:
            raise sandbox.Unavailable("a clock for PostgreSQL needs a C compiler (cc)")
        source = folder / "clock.c"
        source.write_text(_SHIM)
        made = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", self._library, source],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise sandbox.Unavailable(f"the C compiler cannot make a clock: {made.stderr.strip()[-200:]}")
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Be fast by so many seconds from now on, or slow by as many below zero."""
        if not self._hand.exists():
            self._hand.write_bytes(bytes(mmap.PAGESIZE))
        with self._hand.open("r+b") as file:
            file.write(struct.pack("l", seconds))

    def _command(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        made = super()._command(program, *arguments)
        env = {"LD_PRELOAD": str(self._library), "OUTBOX_TEST_CLOCK": str(self._hand)}
        return {**made, "env": {**made["env"], **env}} if program == "postgres" else made
