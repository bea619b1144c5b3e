//! The host's own reads, to resolve a call.
//!
//! Invariant: for a plugin, such a read gives the same result for an item that does not exist and one that it may not
//! read, so it learns nothing by trying.

use qchost_catalog::{BoxFuture, Failure, Operation, Outcome};
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

/// Makes a read. An answer that there is no such `what` is a denial. Without a usable answer, or after a refusal for
/// another reason, nothing is known: the call is unavailable for that reason, and may be retried.
pub(crate) async fn read(
    reader: &dyn Reader,
    operation: &'static Operation,
    arguments: Map<String, Value>,
    what: &str,
) -> Result<Value, ScopeError> {
    reader
        .read(operation, arguments)
        .await
        .map_err(|failure| refused(failure, what))
}

/// The error of a failed read for the call that needed it.
pub(crate) fn refused(failure: Failure, what: &str) -> ScopeError {
    match failure {
        Failure::NotFound(_) => {
            tracing::debug!(target: "scope", what, %failure, "cannot be resolved");
            unresolved(what)
        }
        // The cause tells whether there was a server at all: without credentials none is started.
        Failure::Unavailable(cause) => ScopeError::Failed(Failure::Unavailable(format!(
            "{what} cannot be resolved, so the call was not sent: {cause}"
        ))),
        Failure::Reauthorize(cause) => ScopeError::Failed(Failure::Reauthorize(format!(
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

/// The error if the server gave no usable answer.
pub(crate) fn unavailable(what: &str, cause: &str) -> ScopeError {
    ScopeError::Failed(Failure::Unavailable(format!(
        "{what} cannot be resolved because the server gave no usable answer, so the call was not sent: {cause}"
    )))
}

/// The denial of an item that cannot be resolved.
pub(crate) fn unresolved(what: &str) -> ScopeError {
    ScopeError::Denied(format!(
        "{what} cannot be resolved: the account has none such, or it cannot be read; nothing was sent"
    ))
}

/// The project id in a part of an answer: a whole number, or its text.
pub(crate) fn project_in(value: &Value) -> Carried {
    match value.get("projectId") {
        None | Some(Value::Null) => Carried::Nothing,
        Some(Value::Number(number)) => number.as_u64().map_or(Carried::Other, Carried::of),
        Some(Value::String(text)) => text.parse().map_or(Carried::Other, Carried::of),
        Some(_) => Carried::Other,
    }
}

/// The project in a part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing.
    Nothing,
    /// This one.
    Project(u32),
    /// Not a project id.
    Other,
}

impl Carried {
    fn of(id: u64) -> Self {
        u32::try_from(id).map_or(Self::Other, Self::Project)
    }
}
