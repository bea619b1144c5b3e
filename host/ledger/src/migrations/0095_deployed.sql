-- By which brokerage profile the host made each live deployment: what a deployment says of itself is said of its profile.
CREATE TABLE deployed (
    account TEXT NOT NULL,
    deployment TEXT NOT NULL,
    profile TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, deployment)
) STRICT, WITHOUT ROWID;
-- The profiles of which a deployment said that it trades with real money. No row is ever removed.
CREATE TABLE live_profiles (
    profile TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    deployment TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
