//! What was decided about a call.
//!
//! Invariant: [`Refused::public`] never names a resource that the plugin may not see.

use qchost_ledger::Permit;
use qchost_scope::Touched;

use crate::refusal::Refusal;

/// The outcome of a decision that allows a call.
pub(crate) struct CallDecision {
    pub touched: Touched,
    /// All grants that matched; the obligations of each apply.
    pub matched: Matched,
    /// The permit of the approval, if one is needed.
    pub permit: Option<Permit>,
}

/// The grants that matched, by index: in the manifest, and in the changed one that must agree.
pub(crate) struct Matched {
    pub grants: Vec<usize>,
    pub pending: Vec<usize>,
}

/// A refusal, with what was known at that point.
pub(crate) struct Refused {
    pub internal: Refusal,
    /// What the plugin is told instead, if the refusal names something that it may not see.
    pub public: Option<Refusal>,
    pub guardrails: Vec<String>,
    pub project: Option<(u32, String)>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            internal: refusal,
            public: None,
            guardrails: Vec::new(),
            project: None,
        }
    }
}

impl From<Box<Refused>> for Refused {
    fn from(refused: Box<Refused>) -> Self {
        *refused
    }
}

impl Refused {
    /// Adds the project that the call is about.
    pub(crate) fn about(mut self, touched: &Touched) -> Self {
        self.project.clone_from(&touched.project);
        self
    }
}

/// Whether real money is at stake.
pub(crate) fn is_live(touched: &Touched) -> bool {
    touched.facts.iter().any(|facts| facts.context.live)
}
