-- `plugin`: who compiled; its quota is charged. `signature`: the server's own, of what it compiled; `contents`: a digest of
-- the contents of the project's own files as the host read them.
ALTER TABLE compiles ADD COLUMN plugin TEXT NOT NULL DEFAULT '';
ALTER TABLE compiles ADD COLUMN signature TEXT;
ALTER TABLE compiles ADD COLUMN contents TEXT;
-- Former sources were read without libraries and settings: such a compile is of unknown code.
UPDATE compiles SET source = NULL;
CREATE INDEX compiles_by_plugin ON compiles (account, plugin, id);
CREATE INDEX compiles_by_source ON compiles (source) WHERE source IS NOT NULL;
CREATE INDEX compiles_by_signature ON compiles (account, project, signature) WHERE signature IS NOT NULL;

-- The source that a deployment would run: kept for as long as the approval waits or its permit can be used.
ALTER TABLE approvals ADD COLUMN source TEXT;
CREATE INDEX approvals_by_source ON approvals (source) WHERE source IS NOT NULL;
