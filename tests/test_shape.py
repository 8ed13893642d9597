"""The shape of the house: files and functions stay small, and nothing hides a library of ours."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PRODUCT = ("outbox", "relay", "alembic")
LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's place and length in lines, without its docstring: saying more must not cost code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = node.body[0] if ast.get_docstring(node) is not None else None
            documentation = (told.end_lineno or 0) - told.lineno + 1 if told else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - documentation
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length


def test_a_file_fits_in_a_head() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in files(*PRODUCT, "tests")}
    assert not {path: length for path, length in lengths.items() if length > LONGEST_FILE}


def test_a_function_fits_on_a_page() -> None:
    long = [
        f"{place}: {length} lines"
        for path in files(*PRODUCT)
        for place, length in functions(path)
        if length > LONGEST_FUNCTION
    ]
    assert not long


def test_the_library_alembic_is_not_hidden_by_our_folder() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_no_module_is_a_leftover() -> None:
    """Nothing in the product says that it is unfinished."""
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    assert not [path for path in files(*PRODUCT) if unfinished.search(path.read_text())]


def test_every_dependency_has_its_exact_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[\[<>=;]", one)[0].strip().lower() for one in asked} - {"outbox-relay"}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names <= pinned
