//! Why policies cannot be used.

use std::path::PathBuf;

/// Why a manifest or guardrails cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A folder or file of guardrails cannot be read.
    #[error("{}: cannot read the guardrails: {source}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A guardrail is not a policy, violates the schema, or permits.
    #[error("{}:{line}: {message}", path.display())]
    Guardrail {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The problem and the remedy.
        message: String,
    },
    /// Cedar rejects a grant. This is a defect of the host: a manifest that was parsed compiles.
    #[error("{what} cannot be compiled: {message}")]
    Compile {
        /// The grant.
        what: String,
        /// Cedar's message.
        message: String,
    },
}
