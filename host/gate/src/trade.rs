//! The rules of trade: the host's own flag, adopted code, and sources that the host saw compiled.
//!
//! Invariant: real money is reached only by a grant *and* the host's configuration *and*, in production, a component that a
//! person adopted.

use std::sync::Arc;

use qchost_catalog::Access;
use qchost_ledger::{
    Adoption, ApprovalKind, Binding, LedgerError, NewApproval, RequestError, Status,
};
use qchost_policy::{Denial, Manifest};
use qchost_scope::Touched;
use serde_json::json;

use crate::approvals::not_asked;
use crate::ask::Ask;
use crate::changes::{Change, Subject};
use crate::gate::{Gate, now};
use crate::in_force::{Admitted, owners};
use crate::kept::bounded;
use crate::refusal::Refusal;

/// The operation of an approval of a component.
const ADOPTION: &str = "component";

/// A component that may not serve before an operator has adopted it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the component of `{plugin}` changed and may trade, so it waits for an operator; look at it with: qchost approvals show {approval}"
)]
pub struct Waiting {
    /// The plugin.
    pub plugin: String,
    /// The approval it waits for.
    pub approval: String,
}

/// Why a component was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It awaits an operator.
    #[error(transparent)]
    Waiting(#[from] Waiting),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Approval cannot be requested.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Gate {
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
        self.0.components.admit(digest, imports);
        let admitted = self.admit_manifest(manifest).await?;
        let in_force = match &admitted {
            Admitted::Whole => manifest,
            Admitted::Held { base, .. } => base,
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
        let ledger = &self.0.ledger;
        let former = ledger.adopted(account, plugin).await?;
        let changed = former.as_ref().is_some_and(|former| {
            !former.confirmed
                || former.digest != **digest
                || imports
                    .iter()
                    .any(|import| !former.imports.contains(import))
        });
        if changed && self.settings().production {
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
        let former = self.0.ledger.adopted(account, plugin).await?;
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
        self.0.changes.note(change.into());
        let adoption = Adoption {
            digest: digest.to_owned(),
            imports: imports.to_vec(),
            by: by.to_owned(),
            at: now(),
            confirmed: true,
        };
        let ledger = &self.0.ledger;
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
            "file owners": interested,
            "digest": digest,
            "adopted digest": former.map(|former| former.digest.as_str()),
            "imports it did not have": gained,
            "may trade": manifest.trades(),
        });
        let requested = NewApproval {
            kind: ApprovalKind::Component,
            binding: Binding {
                account: manifest.account.clone(),
                plugin: manifest.plugin.clone(),
                digest: digest.to_owned(),
                operation: ADOPTION.to_owned(),
                profile_revision: String::new(),
                arguments_hmac: self.0.prints.of("component", &json!([digest, imports])),
            },
            view,
            contents: None,
            untold: false,
            needs: if self.settings().two_person { 2 } else { 1 },
            requester: None,
            interested: interested.into_iter().collect(),
            askers: Vec::new(),
            scope: json!({ "imports": imports }),
            cost: 0,
            source: None,
            now: now(),
            expires: self.approval_end(),
        };
        let asked = requested.now;
        let approval = self.0.ledger.request_approval(requested).await?;
        if approval.requested == asked {
            self.note_request(&approval, None);
        }
        if approval.status == Status::Approved {
            // It was approved, and the host ended before the adoption was stored.
            let (account, plugin) = (&manifest.account, &manifest.plugin);
            self.adopt(account, plugin, digest, imports, "an earlier approval")
                .await?;
        }
        Ok(approval.id)
    }

    /// The rules for trade, independent of grants.
    pub(crate) async fn check_trade(&self, ask: &Ask, touched: &Touched) -> Result<(), Refusal> {
        let live = touched.facts.iter().any(|facts| facts.context.live);
        if ask.access != Access::Trade {
            return Ok(());
        }
        self.check_live(ask, live).await?;
        if !ask.caller.is_operator() {
            self.check_adopted(ask).await?;
        }
        Ok(())
    }

    /// The requirements for real money, for any caller.
    pub(crate) async fn check_live(&self, ask: &Ask, live: bool) -> Result<(), Refusal> {
        if live && !ask.settings().live_trading {
            return Err(denied(
                "real money may be at stake, and this host does not trade live; an operator sets `live-trading = true` \
                 in qchost.toml if it is to",
            ));
        }
        if live && ask.name == "live/create-live-algorithm" {
            let compile = ask.arguments.get("compileId").and_then(|id| id.as_str());
            let known = match compile {
                Some(compile) => self.source_of(ask.account(), compile).await?,
                None => None,
            };
            if known.is_none() {
                return Err(denied(
                    "the source of this compile is not known: it was not made through this host, its source changed \
                     while it was compiled, or it is too old; compile the project again through the host and deploy that",
                ));
            }
        }
        Ok(())
    }

    async fn check_adopted(&self, ask: &Ask) -> Result<(), Refusal> {
        let manifest = ask.manifest();
        let ledger = &self.0.ledger;
        let adopted = ledger
            .adopted(&manifest.account, &manifest.plugin)
            .await
            .map_err(unusable)?;
        if adopted
            .as_ref()
            .is_none_or(|adopted| adopted.confirmed && adopted.digest == *ask.caller.digest)
        {
            return Ok(());
        }
        let imports = self.0.components.imports(&ask.caller.digest);
        // A component that was never admitted runs only in tests of the gate alone.
        let imports = imports.unwrap_or_default();
        let id = self
            .request_adoption(manifest, &ask.caller.digest, &imports, adopted.as_ref())
            .await
            .map_err(not_asked)?;
        Err(Refusal::ApprovalRequired { id })
    }
}

fn denied(reason: &str) -> Refusal {
    Refusal::Denied(Denial {
        reason: reason.to_owned(),
        nearest_grant: None,
        remedy: None,
    })
}

/// The ledger cannot be used, so calls that need it are not sent.
pub(crate) fn unusable(error: LedgerError) -> Refusal {
    Refusal::Failed(qchost_catalog::Failure::Unavailable(format!(
        "the host cannot use its ledger, so nothing was sent: {error}"
    )))
}
