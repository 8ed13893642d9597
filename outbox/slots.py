"""All SQL on slots: what is done, what was seen first, and the one statement that fires.

Parameters are ``:named`` and cast, so that every driver can run them; the relay's session spells them anew.
Which slots are due is decided in ``schedules``.
"""

from __future__ import annotations

from typing import Final

RUN: Final = "run:"
"""Begins the names of single commands (``outbox cron run``): they share the table with schedules, no name."""

# A schedule that nobody has seen before gets a row at the epoch, and begins at that row's own time. Inserted
# and not computed: of two that see it at the same moment, one waits for the other and finds the same
# beginning.
ENROL: Final = """
INSERT INTO outbox.slot (schedule, slot_at, by)
SELECT n.name, CAST('epoch' AS timestamptz), CAST(:by AS text) FROM unnest(CAST(:names AS text[])) AS n (name)
ORDER BY n.name ON CONFLICT DO NOTHING
"""

# The database's clock: those of the hosts differ. A slot that is yet to come was fired while that clock was
# wrong, and is no reason to wait for it.
STANDING: Final = """
SELECT n.name, clock_timestamp(), CASE WHEN s.slot_at = 'epoch' THEN s.at ELSE s.slot_at END
  FROM unnest(CAST(:names AS text[])) AS n (name)
  LEFT JOIN LATERAL (SELECT slot_at, at FROM outbox.slot
                      WHERE schedule = n.name AND slot_at <= clock_timestamp()
                      ORDER BY slot_at DESC LIMIT 1) s ON true
"""

# Slot and job in one statement, so that there is never the one without the other. A slot that somebody is
# just now firing is waited for: it is theirs, or, if they fail, ours.
FIRE: Final = """
WITH won AS (
    INSERT INTO outbox.slot (schedule, slot_at, by)
    VALUES (CAST(:schedule AS text), CAST(:slot_at AS timestamptz), CAST(:by AS text))
    ON CONFLICT DO NOTHING RETURNING slot_at),
job AS (
    INSERT INTO outbox.job (id, kind, payload, content_type, headers, key, max_attempts, exchange,
                            routing_key, tracked)
    SELECT CAST(:id AS uuid), CAST(:kind AS text), CAST(:payload AS bytea), CAST(:content_type AS text),
           CAST(:headers AS jsonb), CAST(:key AS text), CAST(:max_attempts AS integer),
           CAST(:exchange AS text), CAST(:routing_key AS text), CAST(:tracked AS boolean)
      FROM won ON CONFLICT DO NOTHING)
SELECT slot_at FROM won
"""

# The last one of a schedule stays, however old: it says where the schedule goes on.
PRUNE: Final = """
WITH d AS MATERIALIZED (
    SELECT s.ctid AS spot FROM outbox.slot s
     WHERE s.slot_at < statement_timestamp() - make_interval(secs => CAST(:after AS float8))
       AND EXISTS (SELECT FROM outbox.slot n WHERE n.schedule = s.schedule AND n.slot_at > s.slot_at
                                               AND n.slot_at <= statement_timestamp())
     ORDER BY s.slot_at LIMIT CAST(:rows AS integer))
DELETE FROM outbox.slot s USING d WHERE s.ctid = d.spot RETURNING s.slot_at
"""
