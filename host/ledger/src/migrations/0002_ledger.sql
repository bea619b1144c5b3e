-- "qchd": says that the file is ours.
PRAGMA application_id = 1902340196;

-- Single values: `audit-head`, and `restored` in a backup until it was opened and checked.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Bytes a plugin keeps in `state`, names of deleted keys included: the sum is too slow to take at each write.
CREATE TABLE state_totals (plugin TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO state_totals
    SELECT plugin, sum(length(CAST(key AS BLOB)) + coalesce(length(value), 0)) FROM state GROUP BY plugin;

-- `day`: days since 1970-01-01, UTC. `cost`: 1/10000 dollar.
CREATE TABLE counters (
    account TEXT NOT NULL, plugin TEXT NOT NULL, grant_name TEXT NOT NULL, day INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0), cost INTEGER NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (account, plugin, grant_name, day)
) WITHOUT ROWID;

-- Open reservations only; AUTOINCREMENT so that no number is ever given twice.
-- `charges`: JSON, [[grant, day, cost], ...]: what a release gives back.
CREATE TABLE reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL, account TEXT NOT NULL, plugin TEXT NOT NULL,
    begun_ms INTEGER NOT NULL, charges TEXT NOT NULL, permit TEXT, permit_cost INTEGER NOT NULL
);

-- `status`: pending, approved or refused; that it expired or was used up follows from the times and the permit.
CREATE TABLE approvals (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, account TEXT NOT NULL, plugin TEXT NOT NULL, digest TEXT NOT NULL,
    operation TEXT NOT NULL, profile_revision TEXT NOT NULL, arguments_hmac TEXT NOT NULL, view TEXT NOT NULL,
    needs INTEGER NOT NULL, requester INTEGER, scope TEXT NOT NULL, cost INTEGER NOT NULL,
    requested_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, status TEXT NOT NULL
);
CREATE INDEX approvals_by_plugin ON approvals (account, plugin, status);

CREATE TABLE decisions (
    approval TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    uid INTEGER NOT NULL, name TEXT NOT NULL, at_ms INTEGER NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL,
    standing TEXT, PRIMARY KEY (approval, uid)
) WITHOUT ROWID;

-- `cost_left` NULL: no limit. A standing permit leaves `profile_revision` and `arguments_hmac` open.
CREATE TABLE permits (
    id TEXT PRIMARY KEY, approval TEXT NOT NULL UNIQUE REFERENCES approvals (id) ON DELETE CASCADE,
    standing INTEGER NOT NULL, account TEXT NOT NULL, plugin TEXT NOT NULL, digest TEXT NOT NULL,
    operation TEXT NOT NULL, profile_revision TEXT, arguments_hmac TEXT, scope TEXT NOT NULL,
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0), cost_left INTEGER CHECK (cost_left >= 0),
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX permits_by_use ON permits (account, plugin, digest, operation);

-- An empty account or plugin means every one.
CREATE TABLE halts (
    account TEXT NOT NULL, plugin TEXT NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, plugin)
) WITHOUT ROWID;

CREATE TABLE adoptions (
    account TEXT NOT NULL, plugin TEXT NOT NULL, digest TEXT NOT NULL, imports TEXT NOT NULL,
    by TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (account, plugin)
) WITHOUT ROWID;

CREATE TABLE created_projects (
    account TEXT NOT NULL, project INTEGER NOT NULL, plugin TEXT NOT NULL, PRIMARY KEY (account, project)
) WITHOUT ROWID;

-- `used`: grows with each use, so that the ones longest not used are dropped first.
CREATE TABLE sources (
    hash TEXT PRIMARY KEY, used INTEGER NOT NULL, bytes INTEGER NOT NULL, files TEXT NOT NULL
);
CREATE INDEX sources_by_use ON sources (used, bytes);
CREATE TABLE compiles (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, compile TEXT NOT NULL, project INTEGER NOT NULL,
    source TEXT, UNIQUE (account, compile)
);
CREATE TABLE approved_sources (
    account TEXT NOT NULL, project INTEGER NOT NULL, source TEXT NOT NULL, PRIMARY KEY (account, project)
) WITHOUT ROWID;
CREATE INDEX approved_sources_by_source ON approved_sources (source);

CREATE TABLE rate_marks (
    account TEXT NOT NULL, key TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (account, key)
) WITHOUT ROWID;
