//! How fast a plugin may go: rates, calls at a time, and a fair share of the account.
