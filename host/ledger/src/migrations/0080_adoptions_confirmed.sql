-- 0: the adoption came from a backup, and no person has said yes to the component since.
ALTER TABLE adoptions ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 1;
