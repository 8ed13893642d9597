"""The schema ``outbox``: jobs, their transitions, the leader, the takers.

Plain SQL, because a revision is history: it must not change when the models do. A test holds the models to it.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# IF NOT EXISTS would ask for CREATE on the database even where an administrator has made the schema.
SCHEMA = "DO $$ BEGIN IF to_regnamespace('outbox') IS NULL THEN CREATE SCHEMA outbox; END IF; END $$"

JOB = """
CREATE TABLE outbox.job (
    -- First: defaults run in column order, so the transaction has its xid before it draws a position.
    -- The relay's low-water mark rests on this order (a lower position never gets a higher xid).
    xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
    pos            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    id             uuid        NOT NULL,
    kind           text        NOT NULL,
    key            text        COLLATE "C",
    payload        bytea       NOT NULL,
    content_type   text        NOT NULL DEFAULT 'application/json',
    headers        jsonb       NOT NULL DEFAULT '{}',
    exchange       text,
    routing_key    text,
    first_pos      bigint,
    line           bigint      NOT NULL GENERATED ALWAYS AS (coalesce(first_pos, pos)) STORED,
    state          text        NOT NULL DEFAULT 'pending',
    version        integer     NOT NULL DEFAULT 1,
    attempt        integer     NOT NULL DEFAULT 0,
    max_attempts   integer     NOT NULL DEFAULT 20,
    sends          integer     NOT NULL DEFAULT 1,
    unique_key     text,
    tracked        boolean     NOT NULL DEFAULT true,
    available_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at   timestamptz,
    published_term bigint,
    started_at     timestamptz,
    finished_at    timestamptz,
    lease_until    timestamptz,
    lease_token    uuid,
    progress       real,
    error          text,
    CONSTRAINT job_pkey PRIMARY KEY (id),
    CONSTRAINT job_state_known CHECK (state IN ('scheduled', 'pending', 'parked', 'published',
                                                'running', 'succeeded', 'dead', 'cancelled')),
    CONSTRAINT job_kind_routable CHECK (octet_length(kind) BETWEEN 1 AND 255 AND kind !~ '[*#[:cntrl:]]'),
    CONSTRAINT job_key_not_empty CHECK (key <> ''),
    CONSTRAINT job_headers_object CHECK (jsonb_typeof(headers) = 'object'),
    -- Python knows no year 10000 and no infinity: one such row would end every term of the relay that reads it.
    CONSTRAINT job_times_in_range CHECK (
        least(created_at, available_at, published_at, started_at, finished_at, lease_until) >= '1970-01-01 UTC'
        AND greatest(created_at, available_at, published_at, started_at, finished_at, lease_until) < '9999-01-01 UTC'),
    CONSTRAINT job_counts CHECK (version >= 1 AND attempt >= 0 AND max_attempts >= 1 AND sends >= 1),
    CONSTRAINT job_progress_share CHECK (progress BETWEEN 0 AND 1),
    CONSTRAINT job_running_leased CHECK (state <> 'running' OR lease_until IS NOT NULL),
    CONSTRAINT job_final_finished CHECK ((state IN ('succeeded', 'dead', 'cancelled')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05)
"""

# Each index is partial: a job is in the one or two that belong to its state, so a long history costs the hot path nothing.
INDEXES = (
    "CREATE INDEX job_pending_keyless ON outbox.job (pos) WHERE state = 'pending' AND key IS NULL",
    "CREATE INDEX job_pending_keyed ON outbox.job (key, line) WHERE state = 'pending' AND key IS NOT NULL",
    # For what has committed since a snapshot; spelled so that no plan takes it for the one above.
    "CREATE INDEX job_pending_arrived ON outbox.job (xid, line) WHERE state = 'pending' AND coalesce(key, '') <> ''",
    "CREATE INDEX job_holding ON outbox.job (key, line) WHERE key IS NOT NULL AND (state = 'parked' OR (state = 'scheduled' AND attempt > 0))",
    "CREATE INDEX job_unfinished ON outbox.job (key, line) WHERE key IS NOT NULL AND tracked AND state IN ('published', 'running')",
    "CREATE INDEX job_due ON outbox.job (available_at) WHERE state = 'scheduled'",
    """CREATE INDEX job_parked ON outbox.job
       ((coalesce(exchange, '*') || chr(31) || coalesce(routing_key, '*') || chr(31) || kind), line)
       WHERE state = 'parked'""",
    "CREATE INDEX job_leased ON outbox.job (lease_until) WHERE state = 'running'",
    "CREATE INDEX job_outstanding ON outbox.job (kind, published_at) WHERE state = 'published' AND tracked",
    "CREATE INDEX job_told ON outbox.job (published_at) WHERE state = 'published' AND NOT tracked",
    "CREATE INDEX job_finished ON outbox.job (finished_at) WHERE state IN ('succeeded', 'cancelled')",
    "CREATE INDEX job_dead ON outbox.job (finished_at) WHERE state = 'dead'",
    """CREATE UNIQUE INDEX job_one_waiting ON outbox.job (kind, unique_key)
       WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'pending', 'parked')""",
)

TABLES = (
    """CREATE TABLE outbox.transition (
        job_id uuid NOT NULL, version integer NOT NULL, "from" text NOT NULL, "to" text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), by text NOT NULL, note text,
        CONSTRAINT transition_pkey PRIMARY KEY (job_id, version))""",
    """CREATE TABLE outbox.leader (
        one boolean NOT NULL DEFAULT true, term bigint NOT NULL DEFAULT 0, token uuid,
        pid integer, backend_start timestamptz, heartbeat_at timestamptz, since timestamptz,
        host text, broker text, digest text,
        CONSTRAINT leader_pkey PRIMARY KEY (one), CONSTRAINT leader_one_row CHECK (one)
    ) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200)""",
    "INSERT INTO outbox.leader DEFAULT VALUES",
    """CREATE TABLE outbox.taker (
        kind text NOT NULL, queue text NOT NULL, since timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT taker_pkey PRIMARY KEY (kind))""",
    """CREATE TABLE outbox.meta (
        one boolean NOT NULL DEFAULT true, revision text NOT NULL, min_reader text NOT NULL,
        CONSTRAINT meta_pkey PRIMARY KEY (one), CONSTRAINT meta_one_row CHECK (one))""",
    "INSERT INTO outbox.meta (revision, min_reader) VALUES ('0001', '0001')",
    """CREATE VIEW outbox.jobs AS
        SELECT id, kind, key, state, version, attempt, max_attempts, progress, error, available_at, created_at, published_at,
               finished_at, CASE WHEN content_type LIKE '%json%' THEN convert_from(payload, 'UTF8')
                                 ELSE '\\x' || encode(payload, 'hex') END AS payload, headers
        FROM outbox.job""",
)

# The same table as outbox/states.py; a test compares them cell by cell.
GUARD = """
CREATE FUNCTION outbox.job_guard() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF NEW.version = OLD.version THEN
        IF NOT (NEW.state = OLD.state OR (OLD.state = 'published' AND NEW.state = 'pending')) THEN
            RAISE 'outbox: job %: % -> % needs version %', OLD.id, OLD.state, NEW.state, OLD.version + 1
                USING ERRCODE = 'check_violation', HINT = 'Use outbox.transition(id, version, to).';
        END IF;
    ELSIF NEW.version <> OLD.version + 1
        AND NOT (NEW.version > OLD.version AND NEW.state = 'scheduled' AND current_setting('outbox.ahead', true) IS NOT DISTINCT FROM 'on') THEN
        RAISE 'outbox: job %: version % cannot follow %', OLD.id, NEW.version, OLD.version USING ERRCODE = 'check_violation';
    ELSIF NOT NEW.state = ANY (CASE OLD.state
            WHEN 'scheduled' THEN ARRAY['pending', 'cancelled', 'dead']
            WHEN 'pending' THEN ARRAY['parked', 'running', 'succeeded', 'scheduled', 'dead', 'cancelled']
            WHEN 'parked' THEN ARRAY['pending', 'scheduled', 'cancelled', 'dead']
            WHEN 'published' THEN ARRAY['running', 'succeeded', 'scheduled', 'dead', 'cancelled']
            WHEN 'running' THEN ARRAY['succeeded', 'dead', 'cancelled', 'scheduled']
            ELSE ARRAY['scheduled'] END)
        AND NOT (NEW.state = 'scheduled' AND current_setting('outbox.ahead', true) IS NOT DISTINCT FROM 'on') THEN
        RAISE 'outbox: job %: % -> % is no transition', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    -- The low-water mark rests on it: an UPDATE elsewhere could draw a position before its transaction has an xid.
    IF NEW.state = 'pending' THEN -- an IF of its own: who makes nothing pending needs no right to read the leader's row
        IF NOT EXISTS (SELECT FROM outbox.leader WHERE pid = pg_catalog.pg_backend_pid()) THEN
            RAISE 'outbox: job %: only the leading relay makes a job pending', OLD.id
                USING ERRCODE = 'check_violation', HINT = 'outbox retry schedules it; the relay does the rest.';
        END IF;
    END IF;
    NEW.finished_at := CASE WHEN NEW.state IN ('succeeded', 'dead', 'cancelled') THEN pg_catalog.clock_timestamp() END;
    IF NEW.state <> 'running' THEN
        NEW.lease_until := NULL;
        NEW.lease_token := NULL;
    END IF;
    -- A job that waits again does not push out, nor fail on, an equal one that was added since: one of them keeps the key.
    IF NEW.unique_key IS NOT NULL AND NEW.state IN ('scheduled', 'pending', 'parked')
        AND OLD.state NOT IN ('scheduled', 'pending', 'parked')
        AND EXISTS (SELECT FROM outbox.job WHERE kind = NEW.kind AND unique_key = NEW.unique_key AND id <> NEW.id
                    AND state IN ('scheduled', 'pending', 'parked')) THEN
        NEW.unique_key := NULL;
    END IF;
    RETURN NEW;
END $$
"""

FUNCTIONS = (
    GUARD,
    """
CREATE FUNCTION outbox.job_born() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF NEW.version <> 1 OR NEW.state NOT IN ('pending', 'scheduled', 'running', 'succeeded', 'dead') THEN
        RAISE 'outbox: a job begins with version 1 as pending or scheduled, not with version % as %', NEW.version, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state IN ('succeeded', 'dead') THEN
        NEW.finished_at := pg_catalog.clock_timestamp();
    END IF;
    RETURN NEW;
END $$""",
    """
CREATE FUNCTION outbox.job_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE 'outbox: what a job is never changes (xid, id, kind, key, payload, content_type, tracked): add another one'
        USING ERRCODE = 'check_violation';
END $$""",
    # SECURITY DEFINER: no role needs the grant, and nobody can change a state without leaving a trace.
    """
CREATE FUNCTION outbox.job_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO outbox.transition (job_id, version, "from", "to", by, note) VALUES (
        NEW.id, NEW.version, OLD.state, NEW.state,
        coalesce(nullif(current_setting('outbox.by', true), ''), session_user),
        coalesce(nullif(current_setting('outbox.note', true), ''),
                 CASE WHEN NEW.error IS DISTINCT FROM OLD.error THEN NEW.error END));
    RETURN NULL;
END $$""",
    # An idle leader holds the doorbell's lock, and only then does a commit pay for NOTIFY, which serialises commits.
    # Who gets the lock shared keeps it to the end of the transaction: the leader cannot fall asleep past this row.
    """
CREATE FUNCTION outbox.job_ring() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF current_setting('outbox.doorbell', true) IS DISTINCT FROM 'off'
        AND NOT pg_catalog.pg_try_advisory_xact_lock_shared(1869968482, 2) THEN
        NOTIFY outbox;
    END IF;
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION outbox.add(kind text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
                           delay interval DEFAULT NULL, max_attempts integer DEFAULT 20,
                           exchange text DEFAULT NULL, routing_key text DEFAULT NULL, tracked boolean DEFAULT true)
RETURNS uuid LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE tick bigint := extract(epoch FROM clock_timestamp()) * 4096000; -- as outbox/ids.py: a UUID of version 7
    new_id uuid := encode(int8send((tick >> 12 << 16) | 28672 | (tick & 4095)) || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid;
    body bytea := convert_to(add.payload::text, 'UTF8');
    wrong text := CASE
        WHEN octet_length(body) > 131072 THEN 'the payload is over 131072 bytes: keep it in a store and send its address'
        WHEN octet_length(add.headers::text) > 16384 THEN 'the headers are over 16384 bytes'
        WHEN jsonb_typeof(add.headers) <> 'object' THEN 'headers are an object'
        WHEN jsonb_path_exists(add.headers, '$.* ? (@.type() <> "string")') THEN 'the value of a header is text'
        WHEN EXISTS (SELECT FROM jsonb_object_keys(add.headers) AS name WHERE name ILIKE 'x-outbox-%')
            THEN 'headers that begin with x-outbox- are reserved'
        WHEN NOT add.delay BETWEEN '0' AND '365000 days' THEN 'delay is ' || add.delay || ', not between 0 and 365000 days'
        WHEN '*' IN (add.exchange, add.routing_key) THEN '* is the name of no exchange and no routing key'
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE 'outbox: %', wrong USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO outbox.job (id, kind, payload, key, headers, state, available_at, max_attempts, exchange, routing_key, tracked)
    VALUES (new_id, add.kind, body, add.key, add.headers,
            CASE WHEN delay > interval '0' THEN 'scheduled' ELSE 'pending' END,
            pg_catalog.clock_timestamp() + coalesce(delay, interval '0'),
            add.max_attempts, add.exchange, add.routing_key, add.tracked);
    RETURN new_id;
END $$""",
    """
CREATE FUNCTION outbox.emit(kind text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT '{}',
                            delay interval DEFAULT NULL, exchange text DEFAULT NULL, routing_key text DEFAULT NULL)
RETURNS uuid LANGUAGE sql SET search_path = '' AS $$
    SELECT outbox.add(kind, payload, key, headers, delay, 20, exchange, routing_key, false)
$$""",
    """
CREATE FUNCTION outbox.transition(id uuid, version integer, "to" text) RETURNS text
LANGUAGE plpgsql SET search_path = '' AS $$
#variable_conflict use_column
DECLARE found_version integer;
BEGIN
    UPDATE outbox.job j SET state = transition."to", version = j.version + 1,
           available_at = CASE WHEN transition."to" = 'scheduled' THEN pg_catalog.clock_timestamp() ELSE j.available_at END
     WHERE j.id = transition.id AND j.version = transition.version AND j.state <> transition."to";
    IF FOUND THEN RETURN 'applied'; END IF;
    SELECT j.version INTO found_version FROM outbox.job j WHERE j.id = transition.id;
    RETURN CASE
        WHEN found_version IS NULL THEN 'missing'
        WHEN found_version < transition.version THEN 'ahead'
        WHEN found_version = transition.version THEN 'illegal'
        WHEN EXISTS (SELECT FROM outbox.transition t WHERE t.job_id = transition.id
                     AND t.version = transition.version + 1 AND t."to" = transition."to") THEN 'already_applied'
        ELSE 'superseded' END;
EXCEPTION WHEN check_violation THEN
    RETURN 'illegal';
END $$""",
)

TRIGGERS = (
    """CREATE TRIGGER job_born BEFORE INSERT ON outbox.job FOR EACH ROW
       WHEN (NEW.version <> 1 OR NEW.state NOT IN ('pending', 'scheduled')) EXECUTE FUNCTION outbox.job_born()""",
    """CREATE TRIGGER job_immutable BEFORE UPDATE OF xid, id, kind, key, payload, content_type, tracked ON outbox.job
       FOR EACH ROW EXECUTE FUNCTION outbox.job_immutable()""",
    # The publish mark is the one transition that runs by the thousand: it passes on this condition alone.
    """CREATE TRIGGER job_guard BEFORE UPDATE ON outbox.job FOR EACH ROW
       WHEN (NEW.version <> OLD.version
             OR (NEW.state <> OLD.state AND NOT (OLD.state = 'pending' AND NEW.state = 'published')))
       EXECUTE FUNCTION outbox.job_guard()""",
    """CREATE TRIGGER job_log AFTER UPDATE ON outbox.job FOR EACH ROW
       WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION outbox.job_log()""",
    """CREATE TRIGGER job_ring AFTER INSERT ON outbox.job FOR EACH STATEMENT EXECUTE FUNCTION outbox.job_ring()""",
)


def upgrade() -> None:
    """Create everything; the schema itself may have been made by an administrator."""
    for statement in (SCHEMA, JOB, *INDEXES, *TABLES, *FUNCTIONS, *TRIGGERS):
        op.execute(statement.replace(":", r"\:"))


def downgrade() -> None:
    """Drop what ``upgrade`` made, and every job with it. The schema stays: the version table lives there."""
    op.execute("DROP VIEW outbox.jobs")
    op.execute("DROP TABLE outbox.job, outbox.transition, outbox.leader, outbox.taker, outbox.meta")
    for function in (
        "job_guard",
        "job_born",
        "job_immutable",
        "job_log",
        "job_ring",
        "add",
        "emit",
        "transition",
    ):
        op.execute(f"DROP FUNCTION outbox.{function}")
