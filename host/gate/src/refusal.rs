//! Why a call was not answered: the gate's own reasons, or the connection's.

use qchost_catalog::Failure;

/// A call that the manifest does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("denied: {reason}{}", remedy.as_deref().map(|text| format!("; to allow it, add to the manifest:\n{text}")).unwrap_or_default())]
pub struct Denial {
    /// One sentence.
    pub reason: String,
    /// The name of the grant that came nearest, if any did.
    pub nearest_grant: Option<String>,
    /// What an operator would add to the manifest to allow it, as TOML.
    pub remedy: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The manifest does not allow it. Nothing was sent.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The connection gave no usable answer.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A component that imports more than its manifest mentions. It is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{plugin}` imports {}, which no grant mentions; to allow all of it, add to the manifest:\n{}",
    interfaces.join(", "),
    interfaces.iter().map(|interface| crate::grantable::remedy(interface)).collect::<Vec<_>>().join("\n"))]
pub struct ImportsDenied {
    /// The plugin.
    pub plugin: String,
    /// The interfaces.
    pub interfaces: Vec<String>,
}
