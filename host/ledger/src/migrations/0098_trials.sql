-- What was tried on history, by project: backtests, and optimisations with their combinations. `settled`: whether `tries` can
-- change. No row is ever removed.
CREATE TABLE trials (
    account TEXT NOT NULL,
    project INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('backtest', 'optimization')),
    id TEXT NOT NULL,
    tries INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    PRIMARY KEY (account, project, kind, id)
) STRICT, WITHOUT ROWID;
-- Projects that have held the same source are of one family, named by one of them, and so are those of overlapping families.
CREATE TABLE trial_projects (
    account TEXT NOT NULL,
    project INTEGER NOT NULL,
    family INTEGER NOT NULL,
    PRIMARY KEY (account, project)
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_projects_by_family ON trial_projects (account, family);
-- The sources that each project has held, by digest.
CREATE TABLE trial_sources (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    project INTEGER NOT NULL,
    source TEXT NOT NULL,
    UNIQUE (account, project, source)
) STRICT;
CREATE INDEX trial_sources_by_source ON trial_sources (account, source);
