-- Which run sent an item, so that `undo` finds what a run enrolled.
--
-- sent_by: number in runs of the run with the last intent; NULL for items sent before this column existed, and for items
-- that were never sent. The time of the enrollment then tells the run.

ALTER TABLE items ADD COLUMN sent_by INTEGER;
