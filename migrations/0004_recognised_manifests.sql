-- Fingerprint of a manifest, so that an unchanged one need not be read. No longer used, only cleared by a purge.
--
-- mark: digest over all sources of a run in their order: the bytes of each file and everything that determines the meaning
-- of its rows. Set after all of them were read to their end; NULL from the start of a reading, and once an item that this
-- source named is reassigned or purged.

ALTER TABLE sources ADD COLUMN mark BLOB CHECK (length(mark) = 32);
