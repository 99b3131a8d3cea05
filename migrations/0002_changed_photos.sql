-- Photos that changed after their enrollment, and digests of what was sent if it is not the file itself.
--
-- sent_sha256: NULL if the bytes of the file or a URL were sent.
-- changed: 1 if the photo in the manifest is not the one that the service has.
-- replaces: ids of the service's records that the photo supersedes, as a JSON array; the JSON text null if they have not
-- been queried yet; NULL if it supersedes nothing, or once the records are deleted.
-- removing: the one of these records whose deletion is about to be sent or was sent.

ALTER TABLE items ADD COLUMN sent_sha256 BLOB CHECK (length(sent_sha256) = 32);
ALTER TABLE items ADD COLUMN changed INTEGER NOT NULL DEFAULT 0 CHECK (changed IN (0, 1));
ALTER TABLE items ADD COLUMN replaces TEXT;
ALTER TABLE items ADD COLUMN removing INTEGER;

CREATE INDEX items_changed ON items (id) WHERE changed = 1;
CREATE INDEX items_replacing ON items (id) WHERE replaces IS NOT NULL;
