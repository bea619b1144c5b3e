//! What the host must not forget: budgets, permits, halts and what plugins keep, in one SQLite file.
