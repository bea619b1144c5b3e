//! What was done: an append-only, hash-chained record of every decision and its outcome.
