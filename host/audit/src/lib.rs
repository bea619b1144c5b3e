//! The audit: an append-only, hash-chained record of every decision and its outcome.
//!
//! Records are lines of canonical JSON in segment files; each contains the hash of the one before,
//! and a head signed with the host's key identifies the last one. So records that are changed,
//! dropped or moved afterwards are detected ([`verify`]) with the key. An attacker with the key can
//! forge records; one who restores an old state of the whole folder is detected only by a head that
//! was kept elsewhere ([`Anchor`], or the copy in the database).
//!
//! Files of the folder: `00000000000000000001.jsonl` and so on, `head`, `reserve`.
//!
//! Invariant: when [`Audit::record`] returns, the record and the head that signs it are on disk,
//! and nothing that was acknowledged is ever withdrawn.

mod anchor;
mod audit;
mod copy;
mod error;
mod export;
#[cfg(feature = "faults")]
pub mod faults;
mod files;
mod head;
mod opening;
mod own;
mod query;
mod queue;
mod record;
mod report;
mod reserve;
mod retention;
mod segment;
mod shared;
mod verify;
mod writer;

pub use anchor::Anchor;
pub use audit::{Audit, Opening, Options};
pub use error::AuditError;
pub use export::{Format, export};
pub use files::{Disk, File, Files, Mode};
pub use query::{
    Filter, ProjectName, Query, Record, Summary, Trace, oldest, query, read_members, since, tail,
    trace,
};
pub use record::{Entry, Kind, MAX_BODY, RecordLine, canonical, canonical_object};
pub use report::{Fault, Problem, Report};
pub use verify::verify;
