-- A row that could not become an item, and that was mended in an export of it, is not refused any more, however often
-- its own manifest comes again as it was.
--
-- The row itself has gone from row_faults. user: as it was written; digest: SHA-256 of all that was written in it, so
-- that another row in its place is known from it.

CREATE TABLE mended_rows (
  source_id INTEGER NOT NULL REFERENCES sources (id),
  row       INTEGER NOT NULL,
  user      TEXT,
  digest    BLOB NOT NULL CHECK (length(digest) = 32),
  PRIMARY KEY (source_id, row)
) STRICT, WITHOUT ROWID;
