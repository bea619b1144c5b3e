-- 1: the manifest's file is gone since. A file that gives it again gives something new.
ALTER TABLE in_force ADD COLUMN taken_away INTEGER NOT NULL DEFAULT 0;
