//! Components: which code may serve a plugin, and which may trade for it.
//!
//! Invariant: in production, a component gets grants of trade only once a person adopted it.

use std::sync::Arc;

use qchost_ledger::{
    Adoption, ApprovalKind, Binding, Ledger, LedgerError, NewApproval, RequestError, Status,
};
use qchost_policy::Manifest;
use serde_json::json;

use crate::approval_requests::ApprovalRequests;
use crate::approval_scope::ComponentScope;
use crate::body::{Change, Subject};
use crate::call::CallRequest;
use crate::changes::Changes;
use crate::clock::now;
use crate::components::Components;
use crate::fingerprint::Fingerprints;
use crate::policy_store::PolicyStore;
use crate::proposal::{AdmitError, Admitted, Waiting};
use crate::proposals::{Proposals, owners};
use crate::redacted_text::bounded;
use crate::refusal::{Refusal, not_asked, unusable};

/// The operation of an approval of a component.
const ADOPTION: &str = "component";

/// Admits components, and adopts those that may trade.
pub struct Adoptions {
    pub(crate) ledger: Ledger,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) fingerprints: Arc<Fingerprints>,
    pub(crate) components: Components,
    pub(crate) requests: Arc<ApprovalRequests>,
    pub(crate) proposals: Arc<Proposals>,
}

impl Adoptions {
    /// Whether a component may serve with this manifest. `replaces` is the digest of the serving component. Its imports are
    /// remembered for as long as a clone of its `digest` exists.
    ///
    /// The first component of a plugin that may trade is adopted as the operator installed it. From then on, a component
    /// with another digest, or with new imports, or any component after a backup was restored, does not get the trade grants
    /// automatically: in production it waits, and the old one keeps serving; if none serves, it serves, and its trades
    /// request the approval. In development it is adopted with a warning.
    ///
    /// A manifest that gains rights that await approval is admitted with what was in force before.
    ///
    /// # Errors
    /// When it has to wait, or the ledger cannot be used.
    pub async fn admit(
        &self,
        manifest: &Manifest,
        digest: &Arc<str>,
        imports: &[String],
        replaces: Option<&str>,
    ) -> Result<Admitted, AdmitError> {
        self.components.admit(digest, imports);
        let admitted = self.proposals.admit(manifest).await?;
        let in_force = match &admitted {
            Admitted::Whole => manifest,
            Admitted::Partly { base, .. } => base,
        };
        // A component that may not trade yet is adopted once it may: until then its digest is a part of what awaits
        // approval.
        if in_force.trades().is_some() {
            self.admit_component(manifest, digest, imports, replaces)
                .await?;
        }
        Ok(admitted)
    }

    async fn admit_component(
        &self,
        manifest: &Manifest,
        digest: &Arc<str>,
        imports: &[String],
        replaces: Option<&str>,
    ) -> Result<(), AdmitError> {
        let (account, plugin) = (manifest.account.as_str(), manifest.plugin.as_str());
        let ledger = &self.ledger;
        let former = ledger.adopted(account, plugin).await?;
        let changed = former.as_ref().is_some_and(|former| {
            !former.confirmed
                || former.digest != **digest
                || imports
                    .iter()
                    .any(|import| !former.imports.contains(import))
        });
        if changed && self.policies.settings().production {
            let approval = self
                .request_adoption(manifest, digest, imports, former.as_ref())
                .await?;
            if replaces.is_some_and(|serving| serving != &**digest) {
                return Err(Waiting {
                    plugin: plugin.to_owned(),
                    approval,
                }
                .into());
            }
            return Ok(());
        }
        if changed {
            tracing::warn!(target: "gate", plugin, digest = &**digest, "a changed component may trade: adopted, since this is no production host");
        }
        if changed || former.is_none() {
            self.adopt(account, plugin, digest, imports, "the operator's files")
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn adopt(
        &self,
        account: &str,
        plugin: &str,
        digest: &str,
        imports: &[String],
        by: &str,
    ) -> Result<(), LedgerError> {
        let former = self.ledger.adopted(account, plugin).await?;
        let had = former.as_ref().map_or(&[][..], |former| &former.imports);
        let line = |sign: char, import: &String| format!("{sign} import {import}");
        let gone = had.iter().filter(|import| !imports.contains(import));
        let come = imports.iter().filter(|import| !had.contains(import));
        let difference: Vec<_> = gone
            .map(|import| line('-', import))
            .chain(come.map(|import| line('+', import)))
            .collect();
        let change = Change {
            plugin: Some(plugin.to_owned()),
            account: Some(account.to_owned()),
            by: Some(by.to_owned()),
            digest_before: former.map(|former| former.digest),
            digest_after: Some(digest.to_owned()),
            difference: bounded(difference),
            ..Change::of(Subject::Adoption)
        };
        self.changes.note(change.into());
        let adoption = Adoption {
            digest: digest.to_owned(),
            imports: imports.to_vec(),
            by: by.to_owned(),
            at: now(),
            confirmed: true,
        };
        let ledger = &self.ledger;
        ledger.adopt(account, plugin, adoption).await
    }

    async fn request_adoption(
        &self,
        manifest: &Manifest,
        digest: &str,
        imports: &[String],
        former: Option<&Adoption>,
    ) -> Result<String, RequestError> {
        let gained: Vec<_> = imports
            .iter()
            .filter(|import| former.is_none_or(|former| !former.imports.contains(import)))
            .collect();
        let files = vec![manifest.path.clone(), manifest.component.clone()];
        let mut interested = owners(files).await;
        interested.extend(manifest.origin.owner);
        let again = former.is_some_and(|former| !former.confirmed);
        let view = json!({
            "what": match again {
                true => "adopt a component for trade again, since a backup was restored",
                false => "adopt a changed component for trade",
            },
            "plugin": manifest.plugin,
            "account": manifest.account,
            "component": manifest.component,
            "file-owners": interested,
            "digest": digest,
            "adopted-digest": former.map(|former| former.digest.as_str()),
            "imports-it-did-not-have": gained,
            "may-trade": manifest.trades(),
        });
        let requested = NewApproval {
            kind: ApprovalKind::Component,
            binding: Binding {
                account: manifest.account.clone(),
                plugin: manifest.plugin.clone(),
                digest: digest.to_owned(),
                operation: ADOPTION.to_owned(),
                profile_revision: String::new(),
                arguments_hmac: self.fingerprints.of("component", &json!([digest, imports])),
            },
            view,
            contents: None,
            unannounced: false,
            needs: self.requests.approvers(),
            requester: None,
            interested: interested.into_iter().collect(),
            reload_requesters: Vec::new(),
            scope: json!(ComponentScope {
                imports: imports.to_vec(),
            }),
            cost: 0,
            source: None,
            now: now(),
            expires: self.requests.expiry(),
        };
        let approval = self.requests.request(requested, None).await?;
        if approval.status == Status::Approved {
            // It was approved, and the host ended before the adoption was stored.
            let (account, plugin) = (&manifest.account, &manifest.plugin);
            self.adopt(account, plugin, digest, imports, "an earlier approval")
                .await?;
        }
        Ok(approval.id)
    }

    /// Checks that the code that calls was adopted; otherwise its adoption is requested.
    pub(crate) async fn check_adopted(&self, request: &CallRequest) -> Result<(), Refusal> {
        let manifest = request.manifest();
        let ledger = &self.ledger;
        let adopted = ledger
            .adopted(&manifest.account, &manifest.plugin)
            .await
            .map_err(unusable)?;
        if adopted
            .as_ref()
            .is_none_or(|adopted| adopted.confirmed && adopted.digest == *request.principal.digest)
        {
            return Ok(());
        }
        let imports = self.components.imports(&request.principal.digest);
        // A component that was never admitted runs only in tests of the gate alone.
        let imports = imports.unwrap_or_default();
        let id = self
            .request_adoption(
                manifest,
                &request.principal.digest,
                &imports,
                adopted.as_ref(),
            )
            .await
            .map_err(not_asked)?;
        Err(Refusal::ApprovalRequired { id })
    }
}
