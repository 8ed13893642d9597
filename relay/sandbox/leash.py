"""Our end of the pipe to a keeper. The kernel lets go of it when we die, and the keeper then cleans up."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from relay.sandbox import keeper
from relay.sandbox.errors import StartFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Leash:
    """A keeper process and the requests to it. Threads may share it.

    Args:
        folders: temporary folders that the keeper removes when it ends.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._turn = threading.Lock()
        # -I and -S: nothing in the environment or in site-packages can break the keeper; it starts in 15 ms.
        # A session of its own: Ctrl-C in a terminal goes to us, and we decide what becomes of the server.
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that no half a request is left over to fail again when the pipe is closed
            cwd="/",
            start_new_session=True,
        )

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have the keeper do something.

        Args:
            what: the name of one of :class:`relay.sandbox.keeper.Keeper`'s methods.
            arguments: its arguments.

        Returns:
            Its answer.

        Raises:
            StartFailed: the keeper is gone, or it says that a program cannot be started.
        """
        reply = self._exchange(json.dumps({"do": what, **arguments}))
        answer: dict[str, Any] = json.loads(reply) if reply else {"error": "the server's keeper is gone"}
        if "error" in answer:
            raise StartFailed(answer["error"])
        return answer

    def _exchange(self, line: str) -> bytes:
        pipe, answers = self._keeper.stdin, self._keeper.stdout
        if pipe is None or answers is None or pipe.closed:
            return b""
        try:
            with self._turn:
                pipe.write(line.encode() + b"\n")
                return answers.readline()
        except BrokenPipeError:
            return b""

    def close(self) -> None:
        """Let go: the keeper ends what it runs, removes its folders and ends. Returns when it has."""
        with self._turn, self._keeper:  # leaving Popen's context closes the pipes and waits
            pass
