"""Times that Python cannot hold stay out of the table: the relay could not read them, nor those behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import relays
from psycopg.errors import CheckViolation

if TYPE_CHECKING:
    from databases import Database


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01", "0001-01-01 BC"])
def test_a_time_out_of_range_is_refused(database: Database, moment: str) -> None:
    with pytest.raises(CheckViolation, match="job_created_in_time"):
        relays.add(database, created_at=moment)
