//! Throttling of a call: the rates and concurrency of its grants, what QuantConnect lets an account make of its operation,
//! and the queue of its account.
//!
//! Invariant: the limit of an operation is counted for the whole account, whichever plugin or person makes the calls, and
//! each attempt of a call counts. A call that is refused or dropped while it waits gives back its guards; rates stay charged.

use std::sync::Arc;

use qchost_catalog::Failure;
use qchost_traffic::{
    AccountAdmission, AccountQueues, ConcurrencyGuard, ConcurrencyLimiter, GrantKey, GrantRates,
    Moment, RateError, RateLimits,
};

use crate::call::CallRequest;
use crate::decision::Matched;
use crate::obligations::{obligations, rates_of};
use crate::refusal::{Refusal, unusable};

/// What a call under way occupies.
pub(crate) struct CallGuards {
    /// Its concurrency guards. Released before the caller has the answer, so that a sequential caller is not refused its
    /// next call.
    pub concurrency: Vec<ConcurrencyGuard>,
    /// Its admission by the account's rate limit. Released as soon as the answer is there, since the reads that check the
    /// answer need admissions of their own.
    pub account_admission: Option<AccountAdmission>,
}

/// The limits of grants and accounts.
pub(crate) struct Throttle {
    rates: Arc<GrantRates>,
    concurrency: ConcurrencyLimiter,
    queues: Arc<AccountQueues>,
}

impl Throttle {
    pub(crate) fn new(rates: Arc<GrantRates>, queues: Arc<AccountQueues>) -> Self {
        Self {
            rates,
            concurrency: ConcurrencyLimiter::default(),
            queues,
        }
    }

    /// Waits for the account's rate limit, holding the concurrency guards of the grants.
    pub(crate) async fn enter(
        &self,
        request: &CallRequest,
        concurrency: Vec<ConcurrencyGuard>,
    ) -> Result<CallGuards, Refusal> {
        let (account, plugin) = (request.account(), request.plugin());
        let entered = self.queues.admit(account, plugin, request.priority()).await;
        let account_admission = entered.map_err(|busy| Refusal::RateLimited(busy.retry_after))?;
        Ok(CallGuards {
            concurrency,
            account_admission: Some(account_admission),
        })
    }

    /// Acquires a call's concurrency guards of its grants, and charges their rates.
    pub(crate) async fn charge(
        &self,
        request: &CallRequest,
        matched: &Matched,
    ) -> Result<Vec<ConcurrencyGuard>, Refusal> {
        let mut paid = request.read_charges.settle().await;
        let mut concurrency = Vec::new();
        let mut rates = Vec::new();
        let mut charged_grants = Vec::new();
        for (grant, limits) in obligations(request, matched) {
            let guard = self
                .concurrency
                .try_acquire(&request.grant_key(&grant), limits.concurrent);
            concurrency.push(guard.ok_or_else(|| busy(&grant, limits.concurrent))?);
            if let Some(limits) = rates_of(&limits) {
                let key = request.grant_key(&grant);
                charged_grants.push((key.clone(), limits));
                match paid.iter().position(|(other, _)| *other == key) {
                    Some(at) => drop(paid.swap_remove(at)),
                    None => rates.push((key, limits)),
                }
            }
        }
        rates.extend(limit_of_operation(request));
        if !rates.is_empty() {
            let wanted: Vec<_> = rates.iter().map(|(key, limits)| (key, *limits)).collect();
            let passed = self.rates.check(&wanted, Moment::now()).await;
            passed.map_err(|error| match error {
                RateError::Exceeded { retry_after, .. } => Refusal::RateLimited(retry_after),
                RateError::Unmarked(error) => unusable(error),
            })?;
        }
        *request.read_charges.charged_grants.lock() = charged_grants;
        // Paid by grants that cover the operation but not what it touches.
        for (key, limits) in paid {
            self.rates.refund(&key, limits);
        }
        Ok(concurrency)
    }

    /// Charges a further attempt of a call to what QuantConnect lets the account make of its operation.
    pub(crate) async fn charge_attempt(&self, request: &CallRequest) -> Result<(), Failure> {
        let Some((key, limits)) = limit_of_operation(request) else {
            return Ok(());
        };
        let passed = self.rates.check(&[(&key, limits)], Moment::now()).await;
        passed.map_err(|error| match error {
            RateError::Exceeded { retry_after, .. } => Failure::RateLimited {
                retry_after: Some(retry_after),
            },
            error @ RateError::Unmarked(_) => Failure::Unavailable(error.to_string()),
        })
    }
}

/// What QuantConnect lets an account make of the operation, and what that is counted under, which no grant has.
fn limit_of_operation(request: &CallRequest) -> Option<(GrantKey, RateLimits)> {
    let operation = request.operation?;
    let limits = RateLimits {
        per_half_hour: Some(operation.calls_per_half_hour?),
        ..RateLimits::default()
    };
    Some((GrantKey::new(request.account(), "", operation.name), limits))
}

fn busy(grant: &str, most: Option<u32>) -> Refusal {
    let most = most.unwrap_or_default();
    Refusal::Exhausted {
        message: format!(
            "the grant `{grant}` allows {most} calls at a time, and as many are under way"
        ),
        grant: grant.to_owned(),
        budget: "concurrent",
        resets_in: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use qchost_catalog::{Operation, by_name};
    use serde_json::json;

    use super::*;
    use crate::testing::Stores;

    fn first() -> Matched {
        Matched {
            grants: vec![0],
            pending: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_call_beyond_the_concurrency_of_its_grant_is_refused_until_another_ends() {
        let grant =
            "[[grant]]\nname = \"one\"\nallow = [\"backtests/*\"]\nlimits = { concurrent = 1 }\n";
        let stores = Stores::new(grant).await;
        let throttle = stores.throttle();
        let request = stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        let concurrency = throttle.charge(&request, &first()).await.unwrap();
        let guards = throttle.enter(&request, concurrency).await.unwrap();
        let refusal = throttle.charge(&request, &first()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        drop(guards);
        throttle.charge(&request, &first()).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_beyond_the_rate_of_its_grant_is_refused() {
        let grant =
            "[[grant]]\nname = \"one\"\nallow = [\"backtests/*\"]\nlimits = { per-minute = 1 }\n";
        let stores = Stores::new(grant).await;
        let throttle = stores.throttle();
        let call = || stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        throttle.charge(&call(), &first()).await.unwrap();
        let refusal = throttle.charge(&call(), &first()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::RateLimited(_)), "{refusal:?}");
    }

    /// The operation with a limit of three calls.
    fn limited() -> &'static Operation {
        let listing = by_name("backtests/list-backtests").unwrap();
        Box::leak(Box::new(Operation {
            calls_per_half_hour: Some(3),
            ..*listing
        }))
    }

    #[tokio::test]
    async fn calls_beyond_what_quantconnect_lets_an_account_make_wait_whoever_makes_them() {
        let grants = "[[grant]]\nname = \"one\"\nallow = [\"backtests/*\"]\n";
        let (stores, operation) = (Stores::new(grants).await, limited());
        let call = |plugin: &str| {
            let mut request = stores.request_to(operation.into(), json!({ "projectId": 1 }));
            request.principal.plugin = plugin.into();
            request
        };
        let throttle = stores.throttle();
        // Two at once, whichever plugin makes them; the third follows within the half hour.
        throttle.charge(&call("lab"), &first()).await.unwrap();
        throttle.charge(&call("other"), &first()).await.unwrap();
        for plugin in ["lab", "other"] {
            let refusal = throttle.charge(&call(plugin), &first()).await.unwrap_err();
            let Refusal::RateLimited(wait) = refusal else {
                panic!("{refusal:?}")
            };
            assert!(wait > Duration::from_secs(1_700), "{wait:?}");
            assert!(wait <= Duration::from_secs(1_800), "{wait:?}");
        }
        let refused = throttle.charge_attempt(&call("lab")).await;
        assert!(matches!(refused, Err(Failure::RateLimited { .. })));
        // Another operation is not concerned.
        let other = stores.request("backtests/read-backtest", json!({ "projectId": 1 }));
        throttle.charge(&other, &first()).await.unwrap();
        throttle.charge_attempt(&other).await.unwrap();
    }

    #[tokio::test]
    async fn a_further_attempt_counts_against_what_quantconnect_lets_an_account_make() {
        let grants = "[[grant]]\nname = \"one\"\nallow = [\"backtests/*\"]\n";
        let (stores, operation) = (Stores::new(grants).await, limited());
        let call = || stores.request_to(operation.into(), json!({ "projectId": 1 }));
        let throttle = stores.throttle();
        throttle.charge(&call(), &first()).await.unwrap();
        throttle.charge_attempt(&call()).await.unwrap();
        let refused = throttle.charge_attempt(&call()).await;
        assert!(
            matches!(refused, Err(Failure::RateLimited { .. })),
            "{refused:?}"
        );
        let refusal = throttle.charge(&call(), &first()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::RateLimited(_)), "{refusal:?}");
    }
}
