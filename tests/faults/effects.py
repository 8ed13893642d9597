"""What handlers wrote, held against what was committed: one effect for each job, at its first attempt."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from helpers import eventually

from relay.theatre.judge import judge

if TYPE_CHECKING:
    from uuid import UUID

    from databases import Database
    from faults.figures import Figures

    from relay.theatre.judge import Account, Report


def check_effects(database: Database, account: Account, figures: Figures, timeout: float = 60.0) -> None:
    """Wait until all that was committed is done; see that it was done once, at its first attempt.

    Args:
        database: with the table ``effect`` beside ours.
        account: of a load that has ended.
        figures: told what was found.
        timeout: seconds.
    """
    eventually(lambda: account.ids <= _done(database), timeout, every=0.2)
    done, effects = _done(database), Counter(row[0] for row in database.execute("SELECT job_id FROM effect"))
    attempts = database.value("SELECT max(attempt) FROM outbox.job")
    retried = database.value("""SELECT count(*) FROM outbox.transition WHERE "to" = 'scheduled'""")
    figures.say(
        f"committed {len(account.committed)}, ambiguous {len(account.ambiguous)}, done {len(done)}, effects "
        f"{effects.total()}, highest attempt {attempts}, retried {retried}"
    )
    assert done <= account.ids | account.ambiguous
    assert effects == Counter(dict.fromkeys(done, 1))
    assert (attempts, retried) == (1, 0)


def judge_effects(database: Database, account: Account) -> Report:
    """Hold what handlers wrote against the account, where nobody listened at the broker.

    Raises:
        AssertionError: a job was lost, or done twice, or came from nowhere; or it cost a second attempt.
    """
    effects = Counter(row[0] for row in database.execute("SELECT job_id FROM effect"))
    report = judge(account, [], handled=effects.keys(), effects=effects)
    assert not report.broken, report
    assert database.value("SELECT max(attempt) FROM outbox.job") == 1
    return report


def _done(database: Database) -> set[UUID]:
    return {row[0] for row in database.execute("SELECT id FROM outbox.job WHERE state = 'succeeded'")}
