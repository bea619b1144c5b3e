//! Reserving budgets and permits of a call in the ledger.
//!
//! Invariant: any call that was let through with a permit uses it up, whether a write, a read or a
//! service of the host.

use qchost_ledger::{Begin, BeginError, Charge, PermitUse, Settle};
use qchost_policy::Denial;

use crate::ask::Ask;
use crate::gate::{Gate, now};
use crate::judge::Verdict;
use crate::obligations::obligations;
use crate::refusal::Refusal;
use crate::trade::unusable;

impl Gate {
    /// Charges a read: one unit of each daily count, and its permit if it needs one.
    pub(crate) async fn take_read(&self, ask: &Ask, verdict: &Verdict) -> Result<(), Refusal> {
        if verdict.permit.is_none() {
            return self.count_read(ask, verdict).await;
        }
        let reservation = self.reserve(ask, verdict).await?;
        self.settle(&ask.call, reservation, Settle::Commit).await;
        Ok(())
    }

    /// Counts a read for grants with a daily count.
    async fn count_read(&self, ask: &Ask, verdict: &Verdict) -> Result<(), Refusal> {
        let named: Vec<_> = obligations(ask, &verdict.matched)
            .filter_map(|(grant, limits)| Some((grant, limits.per_day?)))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let grants: Vec<(&str, u32)> = named.iter().map(|(name, most)| (&**name, *most)).collect();
        let ledger = &self.0.ledger;
        ledger
            .count_reads(ask.account(), &ask.caller.plugin, &grants, now())
            .await
            .map_err(exhausted)
    }

    /// Reserves the call's share of every matching grant's budget, and its permit.
    pub(crate) async fn reserve(
        &self,
        ask: &Ask,
        verdict: &Verdict,
    ) -> Result<Option<i64>, Refusal> {
        let cost = verdict.touched.cost.map_or(0, |cost| cost.0);
        let charges: Vec<Charge> = obligations(ask, &verdict.matched)
            .filter(|(_, limits)| limits.per_day.is_some() || limits.cost_per_day.is_some())
            .map(|(grant, limits)| Charge {
                grant: grant.into_owned(),
                per_day: limits.per_day,
                cost,
                cost_per_day: limits.cost_per_day.map(|most| most.0),
            })
            .collect();
        let permit = verdict.permit.as_ref().map(|permit| PermitUse {
            permit: permit.id.clone(),
            cost,
        });
        // A risk-reducing call goes on when the ledger's disk is full.
        if charges.is_empty() && permit.is_none() {
            return Ok(None);
        }
        let begin = Begin {
            call: ask.call.clone(),
            account: ask.account().to_owned(),
            plugin: ask.caller.plugin.to_string(),
            now: now(),
            charges,
            permit,
        };
        let ledger = &self.0.ledger;
        ledger.begin(begin).await.map(Some).map_err(exhausted)
    }

    /// Ends a reservation, if there is one.
    pub(crate) async fn settle(&self, call: &str, reservation: Option<i64>, how: Settle) {
        let Some(reservation) = reservation else {
            return;
        };
        if let Err(error) = self.0.ledger.settle(reservation, how).await {
            tracing::error!(target: "gate", call, %error, "a reservation stays open until the host starts again");
        }
    }
}

pub(crate) fn exhausted(error: BeginError) -> Refusal {
    match error {
        BeginError::Exhausted {
            grant,
            budget,
            limit,
            used,
            resets_in_ms,
        } => Refusal::Exhausted {
            message: format!("the grant `{grant}` allows {limit} ({budget}) and {used} are used"),
            grant,
            budget,
            resets_in: u64::try_from(resets_in_ms)
                .ok()
                .map(std::time::Duration::from_millis),
        },
        BeginError::PermitGone { permit, why } => Refusal::Denied(Denial {
            reason: format!("the permit {permit} cannot be used: {why}"),
            nearest_grant: None,
            remedy: None,
        }),
        BeginError::Ledger(error) => unusable(error),
    }
}
