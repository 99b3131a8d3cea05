-- What each run did, and how it went over time: for `status --watch` from another terminal, and for `report` afterwards.
--
-- quota: calls a second, NULL where a run sends nothing. latencies: JSON, [[milliseconds, answers], ...].
-- limited_by: what kept the run from going faster, when it was noted last. paces: the run's totals at moments; what lies between two of them is the pace.

ALTER TABLE runs ADD COLUMN quota REAL;
ALTER TABLE runs ADD COLUMN newly_enrolled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN throttled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN queries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN limited_by TEXT;
ALTER TABLE runs ADD COLUMN latencies TEXT NOT NULL DEFAULT '[]';

-- How long the service took for the last answer about the item.
ALTER TABLE items ADD COLUMN latency_ms INTEGER;

CREATE TABLE paces (
  run            INTEGER NOT NULL REFERENCES runs (id),
  at             INTEGER NOT NULL,
  calls          INTEGER NOT NULL,
  throttled      INTEGER NOT NULL,
  newly_enrolled INTEGER NOT NULL,
  PRIMARY KEY (run, at)
) STRICT, WITHOUT ROWID;
