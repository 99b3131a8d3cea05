-- A row that could not become an item, and that was mended in an export of it, is not refused any more, however often
-- its own manifest comes again as it was.
--
-- The row itself has gone from row_faults. item: what it has become. digest: of all that was written in the row, so that
-- another one in its place is known from it.

CREATE TABLE mended_rows (
  source_id INTEGER NOT NULL REFERENCES sources (id),
  row       INTEGER NOT NULL,
  item      INTEGER NOT NULL REFERENCES items (id),
  digest    BLOB NOT NULL CHECK (length(digest) = 32),
  PRIMARY KEY (source_id, row)
) STRICT, WITHOUT ROWID;

CREATE INDEX mended_rows_by_item ON mended_rows (item);
