-- The approval that a text came into force by; NULL if it needed none.
ALTER TABLE in_force ADD COLUMN approval TEXT;
-- What people said to a change before was not tied to what was in force then.
UPDATE approvals SET status = 'closed', closed = 'this version of qchost asks for it again'
WHERE kind = 'change' AND status IN ('pending', 'approved');
