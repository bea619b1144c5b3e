-- What a person is shown of a call besides the view: its arguments, whole.
CREATE TABLE approval_contents (
    approval TEXT PRIMARY KEY REFERENCES approvals (id) ON DELETE CASCADE, arguments TEXT NOT NULL
);
-- `bytes`: of view, scope and contents. `untold`: 1 until who invoked the plugin was told of it. `closed`: why the host
-- closed it.
ALTER TABLE approvals ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN closed TEXT;
UPDATE approvals SET bytes = length(CAST(view AS BLOB)) + length(CAST(scope AS BLOB));
CREATE INDEX approvals_in_order ON approvals (requested_ms, id, status, expires_ms);
CREATE INDEX approvals_waiting ON approvals (kind, expires_ms) WHERE status = 'pending';

ALTER TABLE permits ADD COLUMN revoked_ms INTEGER;
ALTER TABLE permits ADD COLUMN revoked_by TEXT;
