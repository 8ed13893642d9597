"""The command ``outbox``, also as ``python -m outbox`` and ``python -m relay``.

Looks, before anything else of ours is imported, whether another package hides ours; the rest is in
``relay/cli/``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

WRONG_ENVIRONMENT = 78


def main() -> None:
    """Run the command and end the process with its exit code."""
    # Imports take a moment, and Ctrl-C there would show a traceback of theirs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed()
    hiding = _hiding()
    if hiding:
        sys.stderr.write(
            f"outbox: another package named relay ({hiding}) hides ours: rename it, "
            "or take its folder out of PYTHONPATH and the working directory\n"
        )
        raise SystemExit(WRONG_ENVIRONMENT)
    importlib.import_module("relay.cli").main()


def _open_closed() -> None:
    """Give a stream that was closed (``2>&-``) a place to write to: nobody reads it, but it must not fail."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - to the end of the process


def _hiding() -> str | None:
    """Return where ``import relay`` would lead, if that is not to our package beside this one."""
    found = importlib.util.find_spec("relay")
    ours = Path(__file__).parent.parent / "relay" / "__init__.py"
    place = found.origin if found else None
    if place and Path(place).exists() and Path(place).samefile(ours):
        return None
    return place or "a folder without __init__.py"


if __name__ == "__main__":
    main()
