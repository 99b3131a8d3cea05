-- Files of a directory that were skipped because they are not photos, so that users see that they were not sent.
--
-- skipped: number in the last reading of this source; a skipped folder counts as one.

ALTER TABLE sources ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0);
