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
use crate::refusal::Refusal;
use crate::sources::compiled_source;

/// Checks calls that trade.
pub(crate) struct TradeRules {
    pub ledger: Ledger,
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
            return Err(Refusal::denied(
                "real money may be at stake, and this host does not trade live; an operator sets `live-trading = true` \
                 in qchost.toml if it is to",
            ));
        }
        if live && request.operation.is_some_and(Operation::deploys) {
            let compile = request
                .arguments
                .get("compileId")
                .and_then(|id| id.as_str());
            let known = match compile {
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
