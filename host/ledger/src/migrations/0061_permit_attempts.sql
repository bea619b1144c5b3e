-- How often the calls of a permit may still be sent: a call that the server refuses gives its use back, not its attempt.
ALTER TABLE permits ADD COLUMN attempts_left INTEGER NOT NULL DEFAULT 0;
UPDATE permits SET attempts_left = uses_left * 10;
