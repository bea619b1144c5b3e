//! Reserving budgets and permits of a call in the ledger.
//!
//! Invariant: every call admitted with a permit spends it, whether a write, a read or a service of the host. That a batch may
//! run is charged and recorded like a read; each call in it is decided by itself.

use std::sync::Arc;

use qchost_ledger::{Charge, Ledger, NewReservation, PermitUse, Settlement};
use serde_json::Value;

use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::clock::now;
use crate::decision::{CallDecision, Matched};
use crate::obligations::obligations;
use crate::record::AuditContext;
use crate::refusal::{Refusal, exhausted};

/// Charges budgets.
#[derive(Clone)]
pub(crate) struct Reserver {
    pub ledger: Ledger,
    pub log: Arc<CallLog>,
}

impl Reserver {
    /// Charges a read: one unit of each daily count, and its permit if it needs one. A refusal is recorded.
    pub(crate) async fn charge_read(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        if decision.permit.is_none() {
            let counted = self.count_read(request, decision).await;
            return counted.inspect_err(|refusal| self.note(request, decision, refusal));
        }
        let reservation = self.reserve(request, decision).await?;
        self.settle(&request.call, reservation, Settlement::Commit)
            .await;
        Ok(())
    }

    /// Charges and records that a batch may run.
    pub(crate) async fn charge_batch(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        self.charge_read(request, decision).await?;
        let context = AuditContext::of(decision, None);
        self.log.note_read(request, &context, &Ok(Value::Null));
        Ok(())
    }

    /// Counts a read for grants with a daily count.
    async fn count_read(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        let named: Vec<_> = obligations(request, &decision.matched)
            .filter_map(|(grant, limits)| Some((grant, limits.per_day?)))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let grants: Vec<(&str, u32)> = named.iter().map(|(name, most)| (&**name, *most)).collect();
        self.ledger
            .count_reads(request.account(), request.plugin(), &grants, now())
            .await
            .map_err(exhausted)
    }

    fn note(&self, request: &CallRequest, decision: &CallDecision, refusal: &Refusal) {
        let context = AuditContext::of(decision, None);
        self.log.note_refusal(request, &context, refusal);
    }

    /// Reserves the call's share of every matching grant's budget, and its permit. A refusal is recorded.
    pub(crate) async fn reserve(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<Option<i64>, Refusal> {
        let cost = decision.touched.cost.map_or(0, |cost| cost.0);
        let permit = decision.permit.as_ref().map(|permit| PermitUse {
            permit: permit.id.clone(),
            cost,
        });
        let begun = self.begin(request, &decision.matched, cost, permit).await;
        begun.inspect_err(|refusal| self.note(request, decision, refusal))
    }

    /// Reserves a cost of every matching grant's budget, and a permit. The caller records a refusal.
    pub(crate) async fn begin(
        &self,
        request: &CallRequest,
        matched: &Matched,
        cost: u64,
        permit: Option<PermitUse>,
    ) -> Result<Option<i64>, Refusal> {
        let charges: Vec<Charge> = obligations(request, matched)
            .filter(|(_, limits)| limits.per_day.is_some() || limits.cost_per_day.is_some())
            .map(|(grant, limits)| Charge {
                grant: grant.into_owned(),
                per_day: limits.per_day,
                cost,
                cost_per_day: limits.cost_per_day.map(|most| most.0),
            })
            .collect();
        // A risk-reducing call goes on when the ledger's disk is full.
        if charges.is_empty() && permit.is_none() {
            return Ok(None);
        }
        let begin = NewReservation {
            call: request.call.clone(),
            account: request.account().to_owned(),
            plugin: request.plugin().to_owned(),
            now: now(),
            charges,
            permit,
        };
        let begun = self.ledger.begin(begin).await;
        begun.map(Some).map_err(exhausted)
    }

    /// Ends a reservation, if there is one.
    pub(crate) async fn settle(&self, call: &str, reservation: Option<i64>, how: Settlement) {
        let Some(reservation) = reservation else {
            return;
        };
        if let Err(error) = self.ledger.settle(reservation, how).await {
            tracing::error!(target: "gate", call, %error, "a reservation stays open until the host starts again");
        }
    }
}

#[cfg(test)]
mod tests {
    use qchost_policy::WORKFLOW;
    use qchost_scope::Scope;
    use serde_json::json;

    use super::*;
    use crate::testing::{Stores, allowed};

    #[tokio::test]
    async fn what_was_not_done_gives_its_budget_back_and_what_was_keeps_it() {
        let grant = "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\nlimits = { per-day = 1 }\n";
        let stores = Stores::new(grant).await;
        let reserver = stores.reserver();
        let file = json!({ "projectId": 1, "name": "a.py" });
        let request = stores.request("files/create-file", file);
        let matched = Matched {
            grants: vec![0],
            pending: Vec::new(),
        };
        let begin = || reserver.begin(&request, &matched, 0, None);
        let first = begin().await.unwrap();
        assert!(first.is_some());
        let refusal = begin().await.unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        reserver.settle("1-0", first, Settlement::Release).await;
        let second = begin().await.unwrap();
        reserver.settle("1-0", second, Settlement::Commit).await;
        let refusal = begin().await.unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        assert!(stores.cloud.sent().is_empty());
    }

    #[tokio::test]
    async fn a_batch_is_charged_and_recorded_like_a_read() {
        let grant = format!(
            "[[grant]]\nname = \"one\"\nallow = [\"{WORKFLOW}\"]\nlimits = {{ per-day = 1 }}\n"
        );
        let stores = Stores::new(&grant).await;
        let reserver = stores.reserver();
        let request = stores.request(WORKFLOW, json!({}));
        let decision = allowed(Scope::new().service());
        let charge = || reserver.charge_batch(&request, &decision);
        charge().await.unwrap();
        assert_eq!(stores.kinds().await, ["read"]);
        let refusal = charge().await.unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        assert_eq!(stores.kinds().await, ["read", "denied"]);
    }
}
