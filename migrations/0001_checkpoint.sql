-- First schema of the checkpoint.
--
-- An item is keyed by (group, user), so that a manifest can be renamed, reordered or extended between runs.
-- Invalid rows have a table of their own, because they have no key; correcting the manifest removes them.
-- The numbers of states, stages and confirmations are those of src/domain/outcome.rs and never change their meaning.
-- Times are in milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id          INTEGER PRIMARY KEY,
  run_id      TEXT NOT NULL UNIQUE,
  access_key  TEXT NOT NULL,              -- masked
  started_at  INTEGER NOT NULL,
  ended_at    INTEGER,                    -- NULL if the run is live or was killed
  exit_code   INTEGER,
  exit_reason TEXT
) STRICT;

CREATE TABLE sources (
  id         INTEGER PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,        -- absolute path of the manifest
  root       TEXT NOT NULL,               -- directory that paths of its items are relative to
  generation INTEGER NOT NULL DEFAULT 0,  -- number of readings
  items      INTEGER NOT NULL DEFAULT 0,  -- items that this source was the last to name
  vanished   INTEGER NOT NULL DEFAULT 0   -- those of them that its last reading did not name
) STRICT;

CREATE TABLE face_groups (
  id   INTEGER PRIMARY KEY,
  code TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE items (
  id              INTEGER PRIMARY KEY,
  user            TEXT NOT NULL,
  group_id        INTEGER NOT NULL REFERENCES face_groups (id),
  source_id       INTEGER NOT NULL REFERENCES sources (id),
  row             INTEGER NOT NULL,
  path            ANY,                    -- relative to the source's root; TEXT, or BLOB if it is not UTF-8
  url             TEXT,
  extra           TEXT,                   -- JSON: [[name, value], ...]
  state           INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 5),
  stage           INTEGER CHECK (stage IN (0, 1)),
  code            TEXT,
  message         TEXT,
  request_id      TEXT,
  attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  quality         TEXT,
  sha256          BLOB CHECK (length(sha256) = 32),
  size            INTEGER,
  mtime_ns        INTEGER,
  first_intent_at INTEGER,
  enrolled_at     INTEGER,
  confirmed_by    INTEGER CHECK (confirmed_by IN (0, 1)),
  UNIQUE (user, group_id),
  CHECK ((path IS NULL) <> (url IS NULL)),
  CHECK (state <> 1 OR first_intent_at IS NOT NULL),
  CHECK ((state = 3) = (confirmed_by IS NOT NULL)),
  CHECK ((state = 4) = (stage IS NOT NULL))
) STRICT;

-- Open items are found without reading finished ones.
CREATE INDEX items_pending ON items (id) WHERE state = 0;
CREATE INDEX items_open ON items (id, state) WHERE state IN (1, 2);

CREATE TABLE row_faults (
  source_id  INTEGER NOT NULL REFERENCES sources (id),
  row        INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  code       TEXT NOT NULL,
  message    TEXT NOT NULL,
  path       TEXT,
  url        TEXT,
  user       TEXT,
  group_code TEXT,
  extra      TEXT,
  PRIMARY KEY (source_id, row)
) STRICT, WITHOUT ROWID;

-- Items and row faults by state and code, updated in the transaction that changes them, so that counting never scans.
CREATE TABLE tally (
  state INTEGER NOT NULL,
  code  TEXT NOT NULL,                    -- '' if there is none
  n     INTEGER NOT NULL,
  PRIMARY KEY (state, code)
) STRICT, WITHOUT ROWID;
