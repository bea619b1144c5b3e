//! Hot reload: the running host follows its files.
//!
//! A *reconciler* compares the files with what serves whenever they may have changed: triggered by the
//! watch, by SIGHUP, by `qchost reload`, by an approval, and every 30 seconds in case there was no
//! trigger. It does not depend on what the change was. A look reads what is new (`scan`), decides what
//! to do (`plan`), unloads what has no manifest any more, and has the rest loaded concurrently with
//! invocations (`load`), with one compile at a time. The state of each file is in one table, which every
//! verb reads.
//!
//! Invariants: a removed manifest takes its plugin's authority with it before anything else is done. An
//! invalid file changes nothing that runs. A problem is logged once for each content, and shown until it
//! is fixed.

mod configuration;
mod load;
mod plan;
mod reconciler;
mod scan;
mod tracked;
mod watching;

pub use reconciler::Reconciler;
