-- Photos that have changed since they were enrolled, and what was sent where that is not the file itself.
--
-- sent_sha256: NULL where the file's own bytes were sent, or a link.
-- changed: 1 where the manifest's photo is not the one that the service has.
-- replaces: the numbers, at the service, of the records whose place the photo's record is to take, as a JSON array; the
-- JSON text null: they have not been asked for yet; NULL: it replaces nothing. The column is emptied when they are gone.
-- removing: the one of them whose removal is about to be sent, or has been.

ALTER TABLE items ADD COLUMN sent_sha256 BLOB CHECK (length(sent_sha256) = 32);
ALTER TABLE items ADD COLUMN changed INTEGER NOT NULL DEFAULT 0 CHECK (changed IN (0, 1));
ALTER TABLE items ADD COLUMN replaces TEXT;
ALTER TABLE items ADD COLUMN removing INTEGER;

CREATE INDEX items_changed ON items (id) WHERE changed = 1;
CREATE INDEX items_replacing ON items (id) WHERE replaces IS NOT NULL;
