//! What a change is about.

/// The subject of a text in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Subject {
    /// The manifest of a plugin, identified by the plugin's name.
    Manifest,
    /// All guardrails.
    Guardrails,
    /// The people, modes and profiles of the configuration.
    Configuration,
}

impl Subject {
    /// Its name in approvals, messages and records.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}
