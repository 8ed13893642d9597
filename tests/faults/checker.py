"""What the fault tests know beside the judge: which jobs a leader sent and did not live to mark."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from databases import Database
    from faults.collector import Delivery


def unmarked_by_term(database: Database, deliveries: Sequence[Delivery]) -> dict[int, set[UUID]]:
    """Return, by term, the jobs that its leader sent and did not live to mark.

    Exact where a count at the moment of a kill is not: the term is in each message, and in each marked row.
    """
    marked = dict(database.execute("SELECT id, published_term FROM outbox.job WHERE state = 'published'"))
    unmarked: dict[int, set[UUID]] = defaultdict(set)
    for delivery in deliveries:
        if marked.get(delivery.id) != delivery.term:
            unmarked[delivery.term].add(delivery.id)
    return dict(unmarked)
