"""Fixtures of the library's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from sqlalchemy.orm import Session

from outbox.handlers import Handlers
from outbox.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session on a database of the test's own."""
    with Session(database.engine) as made:
        yield made


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """An application whose jobs are handled, without a broker."""
    made = Shop(database)
    yield made
    made.close()


@pytest.fixture
def run(shop: Shop) -> Callable[..., Runner[Any]]:
    """Return what makes a runner with one handler, of ``order.paid``."""

    def with_handler(function: Any, **options: Any) -> Runner[Any]:
        handlers = Handlers("receipts", session=shop.sessions)
        handlers("order.paid", **options)(function)
        return Runner(handlers, observer=shop.observe)

    return with_handler
