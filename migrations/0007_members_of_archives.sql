-- Photos in ZIP archives.
--
-- mark: changes whenever the photo does; the modification time of a file in nanoseconds, the CRC-32 of a member.
-- place: where the record of a member was in its archive's directory, NULL for a file. Only a hint, which is checked.

ALTER TABLE items RENAME COLUMN mtime_ns TO mark;
ALTER TABLE items ADD COLUMN place INTEGER CHECK (place IS NULL OR (place >= 0 AND path IS NOT NULL));
