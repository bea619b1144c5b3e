-- Live deployments that a halt is liquidating, until nothing of them runs and nothing is held.
-- `project` 0: the account's deployments, as long as they cannot be listed. `entry`: JSON.
CREATE TABLE liquidations (
    account TEXT NOT NULL, project INTEGER NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (account, project)
) WITHOUT ROWID;
