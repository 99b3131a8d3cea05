-- Files of a directory that were left out, because they are no photos: nobody is to believe that they were sent.
--
-- skipped: of the last reading of this source; a folder that was left out whole counts as one.

ALTER TABLE sources ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0 CHECK (skipped >= 0);
