-- One quota for several processes (--quota-at). Times are the server's own. May be run again.
CREATE SCHEMA IF NOT EXISTS face_enroll;

-- An older face-enroll refuses a newer version.
CREATE TABLE IF NOT EXISTS face_enroll.schema (version int NOT NULL);
INSERT INTO face_enroll.schema SELECT 1 WHERE NOT EXISTS (SELECT FROM face_enroll.schema);

-- One row for each tenant, endpoint and action. Every call takes a slot: slots are `gap` seconds apart over all processes.
CREATE TABLE IF NOT EXISTS face_enroll.quota (
    tenant       text NOT NULL,
    target       text NOT NULL,
    action       text NOT NULL,
    -- Calls a second that the service allows, and those that are made now.
    quota        float8 NOT NULL CHECK (quota > 0),
    rate         float8 NOT NULL CHECK (rate > 0),
    -- Seconds that the clocks of two processes may differ beyond what the rate leaves.
    margin       float8 NOT NULL DEFAULT 0 CHECK (margin >= 0),
    gap          float8 NOT NULL GENERATED ALWAYS AS (1 / rate + margin / quota) STORED,
    next_slot    timestamptz NOT NULL,
    -- No slots before this time: the service asked for a pause.
    paused_until timestamptz NOT NULL DEFAULT '-infinity',
    -- The adaptive rate as JSON, the number of its changes, and the time of the last one.
    decider      text NOT NULL,
    version      bigint NOT NULL DEFAULT 0,
    decided_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Slots handed out so far. Some are lost, so there are a few more than calls.
    slots        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, target, action)
) WITH (fillfactor = 50);
