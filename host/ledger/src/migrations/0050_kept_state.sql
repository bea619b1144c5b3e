-- Keys that have a value, for listings: a plugin may have deleted a hundred thousand others.
CREATE INDEX state_kept ON state (plugin, key) WHERE value IS NOT NULL;
