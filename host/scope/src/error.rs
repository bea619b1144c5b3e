//! Why a call cannot be resolved, or its answer may not be shown.

use qchost_catalog::Failure;
use qchost_text::excerpt;

/// Why there is nothing to decide or to show.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScopeError {
    /// An argument is missing, of the wrong type, or ambiguous; the text names it. Nothing was
    /// sent.
    #[error("invalid argument: {0}")]
    Invalid(String),
    /// Something does not exist, cannot be resolved or belongs to another project than the call
    /// claims. Nothing was sent, or the answer is withheld.
    #[error("denied: {0}")]
    Denied(String),
    /// A read that the host needed gave no answer; the call itself was not sent.
    #[error(transparent)]
    Failed(Failure),
}

/// A plugin's own text, short and quoted, for a message.
pub(crate) fn shown(text: &str) -> String {
    format!("{:?}", excerpt(text, 64))
}
