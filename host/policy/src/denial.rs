//! Why something is not allowed, with a remedy for the operator.

use std::fmt;

/// A call that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Denial {
    /// One sentence.
    pub reason: String,
    /// The name of the closest grant, if there is one.
    pub nearest_grant: Option<String>,
    /// The TOML that an operator would add to the manifest to allow it.
    pub remedy: Option<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied: {}", self.reason)?;
        match &self.remedy {
            Some(text) => write!(f, "; to allow it, add to the manifest:\n{text}"),
            None => Ok(()),
        }
    }
}
