//! What is in force: the settings, and for each plugin the authority of its manifest and that of a changed manifest
//! which does not serve yet.
//!
//! Invariant: an effective policy is immutable. A call holds the one of its decision, so that the whole decision sees one
//! state.

use std::ops::Deref;
use std::sync::Arc;

use qchost_policy::{Authority, Manifest};

use crate::proposal::PendingApproval;
use crate::redacted_text::RedactedText;
use crate::settings::Settings;

/// The settings, with the texts they come from.
#[derive(Debug)]
pub(crate) struct EffectiveSettings {
    pub settings: Settings,
    pub guardrails_text: Arc<RedactedText>,
    /// The text in force. While the file's text awaits approval, the former one.
    pub configuration_text: Arc<RedactedText>,
    /// The file's text, while it awaits approval.
    pub configuration_pending: Option<Arc<RedactedText>>,
}

impl Deref for EffectiveSettings {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// What a manifest grants under the guardrails, with its text.
#[derive(Debug)]
pub(crate) struct Granted {
    pub authority: Authority,
    pub text: Arc<RedactedText>,
}

impl Deref for Granted {
    type Target = Authority;

    fn deref(&self) -> &Authority {
        &self.authority
    }
}

/// The policy of one plugin's calls.
#[derive(Debug)]
pub(crate) struct EffectivePolicy {
    pub settings: Arc<EffectiveSettings>,
    /// The authority of the manifest whose component serves.
    pub authority: Arc<Granted>,
    /// The authority of a changed manifest whose component does not serve yet, or which awaits approval: it must
    /// allow a call too.
    pub pending: Option<Arc<Granted>>,
    /// The approval that the changed manifest waits for, if it does.
    pub pending_approval: Option<Arc<PendingApproval>>,
}

impl EffectivePolicy {
    /// All authorities that must allow a call.
    pub fn authorities(&self) -> impl Iterator<Item = &Arc<Granted>> {
        std::iter::once(&self.authority).chain(&self.pending)
    }

    /// The authority of this manifest, if it is one of these: compared by content and by text.
    pub fn of(&self, manifest: &Manifest) -> Option<&Arc<Granted>> {
        self.authorities().find(|authority| {
            let known = authority.manifest();
            **known == *manifest && known.origin.text == manifest.origin.text
        })
    }
}
