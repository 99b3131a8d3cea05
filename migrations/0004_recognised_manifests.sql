-- A manifest that comes again unchanged is recognised as a whole, and not read.
--
-- mark: a digest over all sources of the run that read this one, in their order: the bytes of each file and all that
-- determines what its rows mean. Set once all of them have been read to their end; NULL from the beginning of a reading
-- on, and as soon as an item that this source named is another's, or forgotten.

ALTER TABLE sources ADD COLUMN mark BLOB CHECK (length(mark) = 32);
