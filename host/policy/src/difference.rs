//! The difference between two manifests: what one allows that the other does not, and a readable line for each change.
//!
//! There are two comparisons of different precision. The lines compare grants of the same name field by field, for
//! people. [`Difference::widens`] and [`Difference::gains`] compare authority: every operation that a grant allows now
//! must have been allowed by one former grant on at least the same scope, and every limit and approval that applied to
//! it must still apply, counted together where it was counted together.
//!
//! Invariant: what cannot be proven to be no wider counts as wider. A comparison that would take too long proves
//! nothing.

mod bounds;
mod change;
mod grants;
mod lines;
mod secrets;

use std::collections::BTreeSet;

use qchost_catalog::{Access, by_name};

pub use change::{Change, ChangeKind, Remembered, Retired, Successor};

use crate::grantable::Pattern;
use crate::manifest::{Egress, Manifest};

/// The changes from one manifest to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    changes: Vec<Change>,
    widens: bool,
    gains: BTreeSet<String>,
}

impl Difference {
    /// The difference between a plugin's former manifest and its current one; `None` stands for no manifest, which
    /// allows nothing.
    #[must_use]
    pub fn between(former: Option<&Manifest>, now: Option<&Manifest>) -> Self {
        let mut lines = lines::changes(former, now);
        // Counters and scopes are kept by plugin and account: those of another one limit nothing here.
        let same = |former: &&Manifest| {
            now.is_some_and(|now| now.plugin == former.plugin && now.account == former.account)
        };
        let before = former.filter(same);
        let wider = now.map(|now| {
            let former = before.map_or(&[][..], |former| &former.grants);
            grants::wider(former, &now.grants)
        });
        let wider = wider.unwrap_or_default();
        let gain = |change: &Change| matches!(change.kind, ChangeKind::Added | ChangeKind::Widened);
        if !wider.is_empty() && !lines.iter().any(gain) {
            // A removed grant may have limited what another one still allows.
            let names: Vec<_> = wider.iter().cloned().collect();
            lines.push(Change {
                kind: ChangeKind::Widened,
                line: format!(
                    "less limits {}: a limit or an approval that applied is gone, or applies to less",
                    lines::list(&names)
                ),
            });
        }
        let widens = !wider.is_empty() || lines.iter().any(gain);
        Self {
            changes: lines,
            widens,
            gains: wider.into_iter().filter(|name| is_guarded(name)).collect(),
        }
    }

    /// All changes, in the order of the manifest. There may be thousands, each a line of bounded length.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether anything changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.widens
    }

    /// Whether anything is newly allowed or limited less, or this cannot be ruled out.
    #[must_use]
    pub fn widens(&self) -> bool {
        self.widens
    }

    /// The operations of class trade or destroy that are newly allowed, on more resources, or limited less.
    #[must_use]
    pub fn gains(&self) -> &BTreeSet<String> {
        &self.gains
    }
}

impl Manifest {
    /// The operations that one of its grants, by index, allows and that another manifest does not allow on the same
    /// resources and under the same obligations.
    #[must_use]
    pub fn not_allowed_by(&self, grant: usize, other: &Self) -> BTreeSet<String> {
        let one = self.grants.get(grant).map(std::slice::from_ref);
        grants::wider(&other.grants, one.unwrap_or_default())
    }

    /// A line for each of its `[[http]]` that sends a secret of the host to a place where a former manifest did not
    /// send it. `sealed` is this manifest with its values sealed like those of the former one.
    #[must_use]
    pub fn sends_beyond(&self, former: Option<&Self>, sealed: &Self) -> BTreeSet<String> {
        let former = former.map_or(&[][..], |former| &former.http);
        secrets::gained(former, &self.http, &sealed.http)
    }

    /// A line for each of its `[[folder]]` that allows more than those of a former manifest did.
    #[must_use]
    pub fn folders_beyond(&self, former: Option<&Self>) -> BTreeSet<String> {
        let former = former.map_or(&[][..], |former| &former.folders);
        let beyond = self.folders.iter();
        let beyond = beyond.filter(|grant| !former.iter().any(|other| grant.is_within(other)));
        beyond.map(lines::folder_line).collect()
    }

    /// The same without operations of class trade or destroy, without tools that the catalog does not know, without
    /// `[[http]]`s that send a secret of the host, without folders, and without ways out if it lets licensed data out.
    #[must_use]
    pub fn without_guarded(&self) -> Self {
        let mut without = self.clone();
        for grant in &mut without.grants {
            // A pattern with a star covers none of these.
            grant
                .allow
                .retain(|pattern| !is_guarded(pattern.as_str()) || pattern.as_str() == "raw/*");
        }
        without.http.retain(|grant| !secrets::sends(grant));
        without.folders.clear();
        if without.lets_out() {
            without = without.without_ways_out();
        }
        without.egress = Egress::default();
        without
    }

    /// The same without ways out of the host.
    #[must_use]
    pub fn without_ways_out(mut self) -> Self {
        self.http.clear();
        // What sends to recipients is granted by naming them, and what steers an agent needs none.
        for grant in &mut self.grants {
            grant.recipients.clear();
            let leaves = |pattern: &Pattern| prompts(pattern.as_str()) || pattern.tool().is_some();
            grant.allow.retain(|pattern| !leaves(pattern));
        }
        self
    }

    /// The operations of class trade or destroy that it allows.
    #[must_use]
    pub fn trades_or_destroys(&self) -> BTreeSet<String> {
        grants::operations(&self.grants)
            .into_iter()
            .filter(|name| is_guarded(name))
            .map(str::to_owned)
            .collect()
    }
}

/// Which counters continue which when one manifest replaces another on a day, and what is then to be kept of removed or
/// smaller grants. `so_far`: what was kept before.
#[must_use]
pub fn successors(
    former: &Manifest,
    so_far: &Remembered,
    now: &Manifest,
    day: i64,
) -> (Vec<Successor>, Remembered) {
    if (&former.plugin, &former.account) != (&now.plugin, &now.account) {
        return (Vec::new(), Remembered::default());
    }
    grants::successors(former, so_far, now, day)
}

/// Whether an operation tells one of QuantConnect's agents what to do.
fn prompts(name: &str) -> bool {
    by_name(name).is_some_and(|operation| operation.prompts)
}

/// Whether an operation is of class destroy or trade. A tool unknown to the catalog counts as trade.
fn is_guarded(name: &str) -> bool {
    match by_name(name) {
        Some(operation) => matches!(operation.access, Access::Trade | Access::Destroy),
        None => name.starts_with("raw/"),
    }
}
