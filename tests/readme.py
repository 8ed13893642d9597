"""Reads the README's code: its Python blocks, and the commands of its console blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code, and the line it stands in."""

    line: int
    code: str


def blocks(language: str) -> Iterator[Block]:
    """Yield the blocks of a language, in order."""
    text = README.read_text()
    for found in BLOCK.finditer(text):
        if found["language"] == language:
            yield Block(text.count("\n", 0, found.start()) + 2, found["code"])


def commands() -> list[str]:
    """Return every command that the README tells people to type, without its comment."""
    lines = (line for block in blocks("console") for line in block.code.splitlines())
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]


def links() -> list[str]:
    """Return every file of ours that the README points to."""
    return re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text())
