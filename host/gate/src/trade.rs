//! The rules of trade, whatever is granted: the host's own flag, adopted code, and sources that the host saw compiled.
//!
//! Invariant: real money is reached only by a grant *and* the host's configuration *and*, in production, a component that a
//! person adopted.

use std::sync::Arc;

use qchost_catalog::{Access, Operation};
use qchost_ledger::Ledger;
use qchost_scope::Touched;

use crate::adoption::Adoptions;
use crate::call::CallRequest;
use crate::decision::is_live;
use crate::paper::PaperEvidence;
use crate::refusal::Refusal;
use crate::sources::compiled_source;

/// Checks calls that trade.
pub(crate) struct TradeRules {
    pub ledger: Ledger,
    pub paper: Arc<PaperEvidence>,
    pub adoptions: Arc<Adoptions>,
}

impl TradeRules {
    /// The rules for trade, independent of grants.
    pub(crate) async fn check(
        &self,
        request: &CallRequest,
        touched: &Touched,
    ) -> Result<(), Refusal> {
        if request.access != Access::Trade {
            return Ok(());
        }
        self.check_live(request, is_live(touched)).await?;
        if !request.principal.is_operator() {
            self.adoptions.check_adopted(request).await?;
        }
        Ok(())
    }

    /// The requirements for real money, for any caller.
    pub(crate) async fn check_live(
        &self,
        request: &CallRequest,
        live: bool,
    ) -> Result<(), Refusal> {
        if live && !request.settings().live_trading {
            let report = request.text("brokerage");
            let report = report.and_then(|profile| self.paper.report_on(profile));
            let report = report.map_or_else(String::new, |report| {
                format!(
                    " (the deployment {} on account `{}` did not say that it trades without real money, so the profile \
                     `{}` counts as one for real money)",
                    report.deployment, report.account, report.profile
                )
            });
            return Err(Refusal::denied(format!(
                "real money may be at stake{report}, and this host does not trade live; an operator sets `live-trading = \
                 true` in qchost.toml if it is to",
            )));
        }
        if live && request.operation.is_some_and(Operation::deploys) {
            let known = match request.text("compileId") {
                Some(compile) => compiled_source(&self.ledger, request.account(), compile).await?,
                None => None,
            };
            if known.is_none() {
                return Err(Refusal::denied(
                    "the source of this compile is not known: it was not made through this host, its source changed \
                     while it was compiled, or it is too old; compile the project again through the host and deploy that",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use qchost_ledger::{Adoption, NewCompile};
    use qchost_scope::Scope;
    use serde_json::json;

    use super::*;
    use crate::clock::now;
    use crate::testing::Stores;

    const GRANT: &str = "[[grant]]\nname = \"one\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\n\
                         brokerages = [\"paper\"]\n";

    fn deploy(stores: &Stores) -> CallRequest {
        let deployment = json!({ "projectId": 1, "compileId": "c-1" });
        stores.request("live/create-live-algorithm", deployment)
    }

    #[tokio::test]
    async fn real_money_takes_the_host_s_configuration_and_a_known_source() {
        let stores = Stores::new(GRANT).await;
        let (rules, request) = (stores.trade(), deploy(&stores));
        rules.check_live(&request, false).await.unwrap();
        let refusal = rules.check_live(&request, true).await.unwrap_err();
        let reason = refusal.to_string();
        assert!(reason.contains("live-trading"), "{reason}");

        let stores = Stores::with(GRANT, |settings| settings.live_trading = true).await;
        let (rules, request) = (stores.trade(), deploy(&stores));
        let refusal = rules.check_live(&request, true).await.unwrap_err();
        let reason = refusal.to_string();
        assert!(reason.contains("source of this compile"), "{reason}");
        let compile = NewCompile {
            account: "a".to_owned(),
            plugin: "lab".to_owned(),
            compile: "c-1".to_owned(),
            project: 1,
            source: "sha256:1".to_owned(),
            files: Vec::new(),
            signature: None,
            contents: "sha256:2".to_owned(),
            now: now(),
        };
        stores.ledger.put_compile(compile).await.unwrap();
        rules.check_live(&request, true).await.unwrap();
    }

    #[tokio::test]
    async fn a_component_that_was_not_adopted_has_to_be_approved_before_it_trades() {
        let stores = Stores::new(GRANT).await;
        let (rules, request) = (stores.trade(), deploy(&stores));
        let check = async |digest: &str| {
            let adoption = Adoption {
                digest: digest.to_owned(),
                imports: Vec::new(),
                by: "ann".to_owned(),
                at: now(),
                confirmed: true,
            };
            let adopted = stores.ledger.adopt("a", "lab", adoption).await;
            adopted.unwrap();
            rules.check(&request, &Scope::new().service()).await
        };
        check("sha256:0").await.unwrap();
        let refusal = check("sha256:1").await.unwrap_err();
        assert!(
            matches!(refusal, Refusal::ApprovalRequired { .. }),
            "{refusal:?}"
        );
        assert!(stores.cloud.sent().is_empty());
    }
}
