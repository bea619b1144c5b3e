//! What was done: an append-only, hash-chained record of every decision and its outcome.

mod anchor;
mod audit;
mod error;
mod files;
mod head;
mod opening;
mod own;
mod queue;
mod record;
mod reserve;
mod retention;
mod segment;
mod writer;

pub use anchor::Anchor;
pub use audit::{Audit, Opening, Options};
pub use error::AuditError;
pub use files::{Disk, File, Files, Mode};
pub use record::{Entry, Kind, LARGEST_BODY, canonical};
