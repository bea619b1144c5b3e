//! The crate's interface to Cedar: the schema, the conversion of a grant to Cedar's JSON, and the
//! evaluation of a question.
//!
//! Invariant: policies are built as JSON, never by concatenating texts, so a name in a manifest cannot
//! become syntax; and Cedar itself decides which policies apply to a question.

mod actions;
mod attributes;
mod compiled;
mod conditions;
mod error;
mod prefilter;
mod question;
mod schema;
mod stack;

pub(crate) use actions::{Action, ConditionsKey, Kind, actions, by_name};
pub(crate) use attributes::{AttributeValue, Bound, EVIDENCE as EVIDENCE_ATTRIBUTE, attributes};
pub(crate) use compiled::Compiled;
pub(crate) use conditions::{grant_conditions, http_conditions};
pub use error::PolicyError;
pub(crate) use prefilter::{Prefilter, View};
pub(crate) use question::{Evaluation, Question, principal, uid};
pub use schema::cedar_schema;
pub(crate) use schema::schema;
pub(crate) use stack::{StackSafe, with_stack};
