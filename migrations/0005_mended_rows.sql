-- Invalid rows that were corrected in an export, so that their unchanged manifest does not reject them again. No longer used, only cleared by a purge.
--
-- The row itself was removed from row_faults. item: the item that it became. digest: of everything in the row, to detect
-- another row in its place.

CREATE TABLE mended_rows (
  source_id INTEGER NOT NULL REFERENCES sources (id),
  row       INTEGER NOT NULL,
  item      INTEGER NOT NULL REFERENCES items (id),
  digest    BLOB NOT NULL CHECK (length(digest) = 32),
  PRIMARY KEY (source_id, row)
) STRICT, WITHOUT ROWID;

CREATE INDEX mended_rows_by_item ON mended_rows (item);
