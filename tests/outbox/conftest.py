"""Fixtures of the library's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session on a database of the test's own."""
    with Session(database.engine) as made:
        yield made
