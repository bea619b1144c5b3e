-- What was in force when it was recorded last, by its digest: `manifest lab`, `component lab`, `guardrails`,
-- `configuration`. A start compares what it finds with it.
CREATE TABLE recorded (
    subject TEXT PRIMARY KEY, digest TEXT NOT NULL, at_ms INTEGER NOT NULL
) WITHOUT ROWID;
