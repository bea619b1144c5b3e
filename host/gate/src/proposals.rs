//! What comes into force, and which parts of it await approval.
//!
//! Files are proposals. In production, a change that gains trade or destroy, sends a secret of the host elsewhere, lets
//! licensed data out, opens a folder of the host's machine, removes a guardrail, or gives people or modes more rights is compared with what the ledger keeps as in
//! force, and waits there for an admin: under `two-person` for two of them, neither of them the owner of the file nor a person who asked for the
//! reload. Until then both versions must allow a call. Everything else comes into force at once; in development and in a new
//! data folder, everything does.
//!
//! Invariant: a change that awaits approval never becomes the authority of a plugin, whichever file it is in and however
//! often the host starts.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use qchost_catalog::{Access, by_name};
use qchost_ledger::{
    AdoptOutcome, Approval, ApprovalKind, Binding, CounterSuccessor, InForce, Ledger, LedgerError,
    NewApproval, NewInForce, Status, Subject, day_of,
};
use qchost_policy::{
    Approval as Consent, ChangeKind, Difference, Manifest, Remembered, Successor, successors,
};
use qchost_traffic::{GrantKey, GrantRates};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::approval_requests::ApprovalRequests;
use crate::approval_scope::CallScope;
use crate::changes::{Changes, Decided};
use crate::clock::now;
use crate::fingerprint::{Fingerprints, sealed};
use crate::policy_store::PolicyStore;
use crate::proposal::{AdmitError, Admitted, Changed, PendingApproval, Proposal, StoredText};
use crate::redacted_text::{bounded, one_line};

/// Maximum lines of a difference in an approver's view.
const MAX_SHOWN: usize = 100;
/// Recorded as the origin of what comes into force without approval.
const FILES: &str = "the operator's files";
/// The same for what comes into force where no person can approve any more.
const RECOVERY: &str = "the user that the host runs as, to recover";
/// Reason for closing approvals of changes when the files were reverted.
const AS_IN_FORCE: &str = "the files say again what is in force";
/// Reason for closing approvals of changes when the files changed again.
const OTHER_CHANGE: &str = "the files ask for another change by now";
/// Reason for closing approvals of changes when another text came into force.
const OTHER_IN_FORCE: &str = "something else came into force since it was asked for";

/// Reason for closing requests of calls when their grant changed.
const OTHER_GRANTS: &str =
    "no grant of the manifest in force allows such a call with an approval any more";
/// Reason for closing requests of calls when the manifest was removed.
const NO_MANIFEST: &str = "the manifest of the plugin was taken away";

/// Brings proposals into force, or has them wait.
pub struct Proposals {
    pub(crate) ledger: Ledger,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) fingerprints: Arc<Fingerprints>,
    pub(crate) rates: Arc<GrantRates>,
    pub(crate) requests: Arc<ApprovalRequests>,
    /// The plugins whose manifests were removed in this run; the ledger may not have stored it yet.
    pub(crate) gone: Mutex<BTreeSet<String>>,
    /// Whether the data folder is new, so that the files found are adopted.
    pub(crate) adopting: AtomicBool,
    pub(crate) tasks: TaskTracker,
}

impl Proposals {
    /// Whether the data folder is new, so that everything found is adopted. [`end_adopting`](Self::end_adopting) ends this.
    #[must_use]
    pub fn is_adopting(&self) -> bool {
        self.adopting.load(Ordering::Acquire)
    }

    /// From now on, also after restarts, nothing is adopted because the data folder is new.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn end_adopting(&self) -> Result<(), LedgerError> {
        if self.is_adopting() {
            self.ledger.set_adopted().await?;
            self.adopting.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// What is in force of a subject, if it is known.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn in_force(
        &self,
        subject: Subject,
        name: &str,
    ) -> Result<Option<InForce>, LedgerError> {
        let mut row = self.ledger.in_force(subject, name).await?;
        // The ledger may not have it yet.
        if let Some(row) = row.as_mut().filter(|_| subject == Subject::Manifest) {
            row.taken_away |= self.gone.lock().contains(name);
        }
        Ok(row)
    }

    /// Brings a proposal into force, or returns what it waits for.
    ///
    /// An approval covers the change from what is in force to what the files say. If anything else comes into force, or the
    /// files are reverted, it is void.
    ///
    /// # Errors
    /// When approval cannot be requested, or the ledger cannot be used. Nothing came into force then.
    pub async fn propose(&self, proposal: Proposal) -> Result<Option<PendingApproval>, AdmitError> {
        let (subject, name) = (proposal.subject, proposal.name.as_str());
        let digest = self.digest(&proposal);
        loop {
            let former = self.in_force(subject, name).await?;
            let known = |former: &InForce| {
                former.confirmed && former.digest == digest && !former.taken_away
            };
            if former.as_ref().is_some_and(known) {
                self.close_changes(subject, name, None, AS_IN_FORCE).await?;
                return Ok(None);
            }
            let waits = self.policies.settings().production
                && !self.is_adopting()
                && !proposal.gains.is_empty();
            let approval = match waits {
                true => Some(
                    self.request_change(&proposal, &digest, former.as_ref())
                        .await?,
                ),
                false => None,
            };
            if let Some(approval) = approval
                .as_ref()
                .filter(|approval| approval.status != Status::Approved)
            {
                return Ok(Some(PendingApproval {
                    approval: approval.id.clone(),
                    gains: proposal.gains,
                    refused: approval.status == Status::Refused,
                }));
            }
            let by = match &approval {
                Some(approval) => names(approval),
                None => FILES.to_owned(),
            };
            let adopt = NewInForce {
                by: by.clone(),
                approval: approval.as_ref().map(|approval| approval.id.clone()),
                ..self.unapproved(&proposal)
            };
            if let AdoptOutcome::InForce(closed) = self.ledger.bring_into_force(adopt).await? {
                if subject == Subject::Manifest {
                    self.gone.lock().remove(name);
                }
                self.requests.note_closed(closed, OTHER_IN_FORCE);
                let approval = approval.map(|approval| approval.id);
                let decided = approval.clone().map(|approval| Decided {
                    by: by.clone(),
                    approval,
                    lines: bounded(ordered(&proposal)),
                });
                self.changes.decided(subject, name, decided);
                tracing::info!(target: "gate", subject = subject.word(), name, %digest, approval, "in force, by {by}");
                return Ok(None);
            }
            // The approval was revoked or expired at this moment: it is requested again.
        }
    }

    /// Brings a proposal into force without an approval. Only for the user that the host runs as, when it starts and no person
    /// can approve any more: the caller has checked that, and recorded it.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn recover(&self, proposal: Proposal) -> Result<(), LedgerError> {
        let adopt = NewInForce {
            by: RECOVERY.to_owned(),
            ..self.unapproved(&proposal)
        };
        if let AdoptOutcome::InForce(closed) = self.ledger.bring_into_force(adopt).await? {
            self.requests.note_closed(closed, OTHER_IN_FORCE);
        }
        Ok(())
    }

    /// What the ledger is to keep as in force of a proposal, if that needs no approval.
    fn unapproved(&self, proposal: &Proposal) -> NewInForce {
        NewInForce {
            subject: proposal.subject,
            name: proposal.name.clone(),
            digest: self.digest(proposal),
            text: json!(StoredText {
                text: &proposal.text,
                remembered: proposal.remembered.clone(),
                owners: proposal.owners.clone(),
            })
            .to_string(),
            by: FILES.to_owned(),
            now: now(),
            approval: None,
            account: proposal.account.clone(),
            successors: proposal.successors.clone(),
        }
    }

    /// Closes what was asked for of a subject, since the files ask for something that never comes into force.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn withdraw(&self, subject: Subject, name: &str) -> Result<(), LedgerError> {
        self.close_changes(subject, name, None, OTHER_CHANGE).await
    }

    async fn close_changes(
        &self,
        subject: Subject,
        name: &str,
        except: Option<&str>,
        why: &str,
    ) -> Result<(), LedgerError> {
        let ledger = &self.ledger;
        let closed = ledger.close_changes(subject, name, except, why).await?;
        self.requests.note_closed(closed, why);
        Ok(())
    }

    fn digest(&self, proposal: &Proposal) -> String {
        let print = self
            .fingerprints
            .of(proposal.subject.word(), &proposal.text);
        format!("hmac-sha256:{print}")
    }

    /// The approval of a change, requested if it was not before.
    async fn request_change(
        &self,
        proposal: &Proposal,
        digest: &str,
        former: Option<&InForce>,
    ) -> Result<Approval, AdmitError> {
        let mut owners = owners(proposal.files.clone()).await;
        owners.extend(&proposal.owners);
        let requesters: BTreeSet<u32> = self.changes.requesters().into_iter().collect();
        let (subject, name) = (proposal.subject, proposal.name.as_str());
        // The difference that approvers see is relative to this.
        let base = former.map(|former| json!([former.digest, former.confirmed]));
        let requested = NewApproval {
            kind: ApprovalKind::Change,
            binding: Binding {
                account: proposal.account.clone(),
                plugin: name.to_owned(),
                digest: digest.to_owned(),
                operation: subject.word().to_owned(),
                profile_revision: String::new(),
                arguments_hmac: self.fingerprints.of("base of a change", &json!(base)),
            },
            view: view(proposal, &owners, &requesters),
            contents: serde_json::to_string(&contents(proposal, former)).ok(),
            unannounced: false,
            needs: self.requests.approvers(),
            requester: None,
            interested: owners.iter().copied().collect(),
            reload_requesters: requesters.iter().copied().collect(),
            scope: json!({ "files": proposal.files }),
            cost: 0,
            source: None,
            now: now(),
            expires: self.requests.expiry(),
        };
        loop {
            let approval = self.ledger.request_approval(requested.clone()).await?;
            if approval.requested == requested.now {
                self.requests
                    .note_change_request(&approval, bounded(ordered(proposal)));
            }
            let except = Some(approval.id.as_str());
            self.close_changes(subject, name, except, OTHER_CHANGE)
                .await?;
            let open = matches!(approval.status, Status::Pending | Status::Approved);
            let Some(void) = approval.void().filter(|_| open) else {
                return Ok(approval);
            };
            let why = format!(
                "{} said yes, and owns one of the files or asked for the reload",
                void.name
            );
            self.close_changes(subject, name, None, &why).await?;
        }
    }

    /// Removes a plugin's authority, from the next call on. The same manifest counts as a new one when it reappears.
    pub fn remove(&self, plugin: &str) {
        self.policies.remove(plugin);
        self.gone.lock().insert(plugin.to_owned());
        let (ledger, plugin) = (self.ledger.clone(), plugin.to_owned());
        let requests = Arc::clone(&self.requests);
        self.tasks.spawn(async move {
            if let Err(error) = take_away(&ledger, &requests, &plugin).await {
                tracing::error!(target: "gate", plugin, %error, "that its manifest was taken away is not stored");
            }
        });
    }

    /// Removes the manifests in force for which no file exists any more.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn remove_missing(&self, stands: impl Fn(&str) -> bool) -> Result<(), LedgerError> {
        for plugin in self.ledger.manifests_in_force().await? {
            if !stands(&plugin) {
                self.gone.lock().insert(plugin.clone());
                take_away(&self.ledger, &self.requests, &plugin).await?;
            }
        }
        Ok(())
    }

    /// How much of a manifest may become the authority of its plugin. What needs no approval is in force from then on, also
    /// after a restart.
    pub(crate) async fn admit(&self, manifest: &Manifest) -> Result<Admitted, AdmitError> {
        let seal = |location: &str, value: &Value| sealed(&self.fingerprints, location, value);
        let sealed = manifest.sealed(seal);
        let row = self.in_force(Subject::Manifest, &manifest.plugin).await?;
        let gone = row.as_ref().is_some_and(|row| row.taken_away);
        let adopted = row.filter(|row| row.confirmed);
        // A text that this version cannot read is no evidence of what was allowed.
        let stored =
            adopted.and_then(|row| serde_json::from_str::<StoredText<Manifest>>(&row.text).ok());
        let (former, so_far) = match stored {
            Some(stored) => (Some(stored.text), stored.remembered),
            None => (None, Remembered::default()),
        };
        let keeps = self.keeps_licensed(manifest, former.as_ref()).await?;
        if keeps && let Some(why) = manifest.leak_of_state() {
            let plugin = manifest.plugin.clone();
            return Err(AdmitError::LicensedState { plugin, why });
        }
        // A removed manifest grants nothing, but its counters continue.
        let given = former.as_ref().filter(|_| !gone);
        let difference = Difference::between(given, Some(&sealed));
        let same = given.filter(|former| former.account == manifest.account);
        let mut gains: Vec<String> = difference.gains().iter().cloned().collect();
        gains.extend(manifest.sends_beyond(same, &sealed));
        gains.extend(manifest.lets_out_beyond(same));
        gains.extend(manifest.folders_beyond(same));
        let day = day_of(now());
        let (successors, remembered) = match &former {
            Some(former) => successors(former, &so_far, &sealed, day),
            None => (Vec::new(), so_far),
        };
        let text = serde_json::to_value(&sealed).map_err(|error| LedgerError::Content {
            location: "in_force.text",
            why: error.to_string(),
        })?;
        let proposal = Proposal {
            subject: Subject::Manifest,
            name: manifest.plugin.clone(),
            account: manifest.account.clone(),
            text,
            gains,
            changes: difference.changes().to_vec(),
            files: vec![manifest.path.clone()],
            owners: manifest.origin.owner.into_iter().collect(),
            remembered,
            successors: successors.into_iter().map(counter_successor).collect(),
        };
        let successors = proposal.successors.clone();
        let Some(pending) = self.propose(proposal).await? else {
            self.hand_over_rates(manifest, &successors).await?;
            let asks = |approval: &Approval| asks_for(manifest, approval);
            let (ledger, requests) = (&self.ledger, &self.requests);
            close_calls(ledger, requests, &manifest.plugin, asks, OTHER_GRANTS).await?;
            self.mark_licensed(manifest).await?;
            return Ok(Admitted::Whole);
        };
        let base = match former.filter(|former| !gone && former.account == manifest.account) {
            Some(former) => former.unsealed(manifest, seal),
            None => manifest.without_guarded(),
        };
        // It awaits, among others, that what the state holds may leave.
        let base = match keeps && base.leak_of_state().is_some() {
            true => base.without_ways_out(),
            false => base,
        };
        self.mark_licensed(&base).await?;
        Ok(Admitted::Partly {
            base: Box::new(base),
            pending,
        })
    }

    /// Whether the state of a manifest's plugin may hold licensed data that an earlier manifest let it read.
    async fn keeps_licensed(
        &self,
        manifest: &Manifest,
        former: Option<&Manifest>,
    ) -> Result<bool, LedgerError> {
        // It may have come into force under a version of the host that did not mark the state.
        if let Some(former) = former {
            self.mark_licensed(former).await?;
        }
        // What serves may be older than what was admitted last, and has written since.
        if let Some(serving) = self.policies.manifest(&manifest.plugin) {
            self.mark_licensed(&serving).await?;
        }
        self.ledger.holds_licensed_state(&manifest.plugin).await
    }

    /// Stores, before a manifest comes into force, that its plugin's state may hold licensed data if it lets it read some.
    async fn mark_licensed(&self, manifest: &Manifest) -> Result<(), LedgerError> {
        match manifest.reads_licensed() {
            true => self.ledger.mark_licensed_state(&manifest.plugin).await,
            false => Ok(()),
        }
    }

    /// Makes the rates of grants start with what was used of the grants whose calls they now allow.
    async fn hand_over_rates(
        &self,
        of: &Manifest,
        successors: &[CounterSuccessor],
    ) -> Result<(), LedgerError> {
        let key = |grant: &String| GrantKey::new(&of.account, &of.plugin, grant);
        for successor in successors {
            let former = successor.of.as_ref().map(|former| {
                let former = former.iter().chain(&successor.at_least);
                former.map(key).collect::<Vec<_>>()
            });
            let to = key(&successor.to);
            self.rates.hand_over(&to, former.as_deref()).await?;
        }
        Ok(())
    }

    /// The operations that the manifest in force allows a plugin and that are nevertheless denied or limited more, because a
    /// changed manifest that is not in force yet says so. `digest` is that of the serving code.
    #[must_use]
    pub fn denied(&self, plugin: &str, digest: &str) -> BTreeSet<String> {
        let Some(policy) = self.policies.of(plugin) else {
            return BTreeSet::new();
        };
        let Some(pending) = &policy.pending else {
            return BTreeSet::new();
        };
        let (base, pending) = (policy.authority.manifest(), pending.manifest());
        let indexes = 0..base.grants.len();
        let mut denied: BTreeSet<_> = indexes
            .flat_map(|index| base.not_allowed_by(index, pending))
            .collect();
        // A pin only affects trade.
        if pending.digest.as_deref().is_some_and(|pin| pin != digest) {
            let trades = |name: &String| {
                by_name(name).is_none_or(|operation| operation.access == Access::Trade)
            };
            denied.extend(base.trades_or_destroys().into_iter().filter(trades));
        }
        denied
    }

    /// The part of a plugin's manifest that awaits approval, if any.
    #[must_use]
    pub fn pending_approval(&self, plugin: &str) -> Option<PendingApproval> {
        let policy = self.policies.of(plugin)?;
        policy.pending_approval.as_deref().cloned()
    }
}

/// Stores that a plugin's manifest was removed, and closes the requests of its calls.
async fn take_away(
    ledger: &Ledger,
    requests: &ApprovalRequests,
    plugin: &str,
) -> Result<(), LedgerError> {
    ledger.take_manifest_away(plugin).await?;
    close_calls(ledger, requests, plugin, |_| false, NO_MANIFEST).await
}

/// Closes the requests of a plugin's calls that would not be asked for any more: no person is asked about a call that needs
/// no approval by now, or is denied.
async fn close_calls(
    ledger: &Ledger,
    requests: &ApprovalRequests,
    plugin: &str,
    asks: impl Fn(&Approval) -> bool,
    why: &str,
) -> Result<(), LedgerError> {
    let pending = ledger.pending_calls(plugin, now()).await?;
    let pending = pending.into_iter().filter(|approval| !asks(approval));
    let ids: Vec<String> = pending.map(|approval| approval.id).collect();
    if !ids.is_empty() {
        let closed = ledger.close_calls(ids, why, now()).await?;
        requests.note_closed(closed, why);
    }
    Ok(())
}

/// Whether a grant of a manifest may ask for the approval that a call asked for.
fn asks_for(manifest: &Manifest, approval: &Approval) -> bool {
    let operation = approval.binding.operation.as_str();
    // A tool unknown to the catalog is treated as the most dangerous class.
    let access = by_name(operation).map_or(Access::Trade, |operation| operation.access);
    let by_two = CallScope::of(approval).two_people;
    manifest.account == approval.binding.account
        && manifest.grants.iter().any(|grant| {
            grant.allows(operation, access) && (by_two || grant.approval == Consent::Operator)
        })
}

fn counter_successor(successor: Successor) -> CounterSuccessor {
    CounterSuccessor {
        to: successor.name,
        adds: successor.adds,
        of: successor.of,
        at_least: successor.at_least,
    }
}

/// The names of the approvers.
fn names(approval: &Approval) -> String {
    let names: Vec<_> = approval.yes().map(|one| one.name.as_str()).collect();
    names.join(", ")
}

/// What an approver is shown of a change before its texts: gains first.
fn view(proposal: &Proposal, owners: &BTreeSet<u32>, requesters: &BTreeSet<u32>) -> Value {
    let lines = |lines: Vec<String>| {
        let lines = lines.into_iter().take(MAX_SHOWN);
        lines.map(|line| one_line(&line)).collect::<Vec<_>>()
    };
    let left_out = |all: usize| Some(all.saturating_sub(MAX_SHOWN)).filter(|more| *more > 0);
    let word = proposal.subject.word();
    let article = if word.ends_with('s') { "" } else { "a " };
    json!({
        "what": format!("bring {article}changed {word} into force"),
        "files": proposal.files,
        "file-owners": owners,
        "reload-asked-for-by": requesters,
        "gains": lines(proposal.gains.clone()),
        "gains-not-shown": left_out(proposal.gains.len()),
        "changes": lines(ordered(proposal)),
        "changes-not-shown": left_out(proposal.changes.len()),
        "until-then": "what was in force stays so, and what the change takes away is denied already",
    })
}

/// The changes, one line each, gains first.
fn ordered(proposal: &Proposal) -> Vec<String> {
    let mut changes: Vec<_> = proposal.changes.iter().collect();
    changes.sort_by_key(|change| match change.kind {
        ChangeKind::Widened => 0,
        ChangeKind::Added => 1,
        ChangeKind::Changed => 2,
        ChangeKind::TakenAway => 3,
    });
    let lines = changes.into_iter();
    lines
        .map(|change| format!("{}: {}", change.kind.word(), change.line))
        .collect()
}

/// What an approver can look at besides the view: the complete difference and the texts.
fn contents(proposal: &Proposal, former: Option<&InForce>) -> Changed {
    // An unconfirmed manifest allows nothing, so everything in the new one is a gain.
    let former = former.filter(|former| former.confirmed || proposal.subject != Subject::Manifest);
    let former = former.map(|former| serde_json::from_str::<StoredText<Value>>(&former.text));
    let former = match former {
        None => String::new(),
        Some(Ok(stored)) => text_of(proposal.subject, &stored.text),
        Some(Err(error)) => format!("this text cannot be read: {error}\n"),
    };
    let all = |lines: Vec<String>| match lines.len() > MAX_SHOWN {
        true => lines,
        false => Vec::new(),
    };
    Changed {
        gains: all(proposal.gains.clone()),
        changes: all(ordered(proposal)),
        former,
        now: text_of(proposal.subject, &proposal.text),
    }
}

/// The stored text of a subject in readable form, one list entry per line.
fn text_of(subject: Subject, stored: &Value) -> String {
    if subject == Subject::Guardrails
        && let Ok(rules) = Vec::<(String, String)>::deserialize(stored)
    {
        let rules = rules.iter();
        return rules
            .map(|(id, rule)| format!("// guardrail {}\n{}\n", one_line(id), rule.trim_end()))
            .collect();
    }
    let text = serde_json::to_string_pretty(stored).unwrap_or_default();
    format!("{text}\n")
}

/// The owners of files, and of the links on their paths, including those of folders.
pub(crate) async fn owners(files: Vec<PathBuf>) -> BTreeSet<u32> {
    let of = |path: &Path| {
        let link = |step: &Path| step.symlink_metadata().ok().filter(|it| it.is_symlink());
        let mut owners: BTreeSet<u32> = path
            .ancestors()
            .filter_map(|step| Some(link(step)?.uid()))
            .collect();
        owners.extend(path.metadata().ok().map(|it| it.uid()));
        owners
    };
    let read = move || files.iter().flat_map(|path| of(path)).collect();
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[tokio::test]
    async fn who_made_a_link_on_the_way_is_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("plugins");
        symlink("/etc", &link).unwrap();
        // Not permitted to every user, and not needed if the link already has another owner than the file.
        drop(lchown(&link, Some(7), None));
        let maker = link.symlink_metadata().unwrap().uid();
        let owners = owners(vec![link.join("passwd")]).await;
        assert!(owners.contains(&maker) && owners.contains(&0), "{owners:?}");
    }
}
