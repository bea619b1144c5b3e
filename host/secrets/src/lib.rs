//! Secrets: where they are kept, how they are read late, and that they never leave the process.
