//! The reads that the host makes for itself, to learn what a call is about.
//!
//! Invariant: what such a read says of a thing that does not exist and of one that may not be read
//! is the same for a plugin, so it learns nothing by asking.

use qchost_catalog::{BoxFuture, Failure, Operation, Outcome, by_name};
use serde_json::{Map, Value};

use crate::error::ScopeError;

/// Makes reads on the account, and in the lane, of the plugin that causes them.
pub trait Reader: Send + Sync {
    /// Makes one read. `arguments` are flat, under their JSON names.
    fn read<'a>(
        &'a self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Outcome>;
}

/// The operation of the catalog with this name.
pub(crate) fn known(name: &str) -> Result<&'static Operation, ScopeError> {
    by_name(name).ok_or_else(|| {
        ScopeError::Failed(Failure::Unavailable(format!(
            "the catalog has no operation `{name}`"
        )))
    })
}

/// Makes a read. An answer that says that there is no `what` is a denial. Where there is no usable answer, or a refusal
/// for another reason, nothing is known of it: the call is unavailable for that reason, and may be tried again.
pub(crate) async fn read(
    reader: &dyn Reader,
    name: &str,
    arguments: Map<String, Value>,
    what: &str,
) -> Result<Value, ScopeError> {
    reader
        .read(known(name)?, arguments)
        .await
        .map_err(|failure| refused(failure, what))
}

/// What a failed read means for the call that needed it.
pub(crate) fn refused(failure: Failure, what: &str) -> ScopeError {
    match failure {
        Failure::NotFound(_) => {
            tracing::debug!(target: "scope", what, %failure, "cannot be resolved");
            unresolved(what)
        }
        // Whether there was a server at all, the cause says: without credentials none is started.
        Failure::Unavailable(cause) => ScopeError::Failed(Failure::Unavailable(format!(
            "{what} cannot be resolved, so the call was not sent: {cause}"
        ))),
        failure @ (Failure::Rejected(_)
        | Failure::InvalidArgument(_)
        | Failure::UnexpectedResponse(_)
        | Failure::UnknownOutcome(_)) => unavailable(what, &failure.to_string()),
        failure @ (Failure::NotReady { .. }
        | Failure::RateLimited { .. }
        | Failure::TimedOut { .. }
        | Failure::Halted(_)) => ScopeError::Failed(failure),
    }
}

/// What to say where the server gave no usable answer.
pub(crate) fn unavailable(what: &str, cause: &str) -> ScopeError {
    ScopeError::Failed(Failure::Unavailable(format!(
        "{what} cannot be resolved because the server gave no usable answer, so the call was not sent: {cause}"
    )))
}

/// The denial of what cannot be resolved.
pub(crate) fn unresolved(what: &str) -> ScopeError {
    ScopeError::Denied(format!(
        "{what} cannot be resolved: the account has none such, or it cannot be read; nothing was sent"
    ))
}

/// The project id that a part of an answer carries: a whole number, or its text.
pub(crate) fn project_in(value: &Value) -> Carried {
    match value.get("projectId") {
        None | Some(Value::Null) => Carried::Nothing,
        Some(Value::Number(number)) => number.as_u64().map_or(Carried::Other, Carried::of),
        Some(Value::String(text)) => text.parse().map_or(Carried::Other, Carried::of),
        Some(_) => Carried::Other,
    }
}

/// What a part of an answer says of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing.
    Nothing,
    /// This one.
    Project(u32),
    /// Something that is no project id.
    Other,
}

impl Carried {
    fn of(id: u64) -> Self {
        u32::try_from(id).map_or(Self::Other, Self::Project)
    }
}
