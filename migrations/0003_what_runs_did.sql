-- What each run did over time, for `status --watch` in another terminal and for a later `report`.
--
-- quota: calls per second, NULL if the run sends nothing. latencies: JSON, [[milliseconds, responses], ...].
-- limited_by: last recorded bottleneck of the run.
-- paces: totals of the run at moments; the rate is the difference between two of them.

ALTER TABLE runs ADD COLUMN quota REAL;
ALTER TABLE runs ADD COLUMN newly_enrolled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN throttled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN queries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN limited_by TEXT;
ALTER TABLE runs ADD COLUMN latencies TEXT NOT NULL DEFAULT '[]';

-- Latency of the last response about the item.
ALTER TABLE items ADD COLUMN latency_ms INTEGER;

CREATE TABLE paces (
  run            INTEGER NOT NULL REFERENCES runs (id),
  at             INTEGER NOT NULL,
  calls          INTEGER NOT NULL,
  throttled      INTEGER NOT NULL,
  newly_enrolled INTEGER NOT NULL,
  PRIMARY KEY (run, at)
) STRICT, WITHOUT ROWID;
