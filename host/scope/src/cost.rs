//! The cost of an optimisation: the larger of what the caller claims and what the host calculates.
//!
//! The host asks QuantConnect how long it would take and multiplies by the price that the operator
//! configured for the node type and by the number of nodes. Without a configured price the cost is
//! unknown, whatever the caller claims.

use std::collections::BTreeMap;

use qchost_catalog::Failure;
use qchost_catalog::host_calls::ESTIMATE_OPTIMIZATION_TIME;
use qchost_policy::Usd;
use serde_json::Value;

use crate::arguments::{Arguments, wrong};
use crate::error::ScopeError;
use crate::reads::Reader;

/// The largest amount that a decision can handle.
const MAX_COST: u64 = 9_223_372_036_854_770_000;

/// The caller's claim, an amount of US dollars.
pub(crate) fn claimed(name: &str, value: &Value) -> Result<Usd, ScopeError> {
    value
        .as_f64()
        .and_then(Usd::from_f64)
        .ok_or_else(|| wrong(name, "an amount of US dollars, not below 0"))
}

/// The cost; `None` if it is unknown.
pub(crate) async fn cost(
    reader: &dyn Reader,
    prices: &BTreeMap<String, Usd>,
    given: &Arguments<'_>,
    claimed: Usd,
    node_type: &str,
    nodes: u32,
) -> Result<Option<Usd>, ScopeError> {
    let Some(price) = prices.get(node_type) else {
        return Ok(None);
    };
    let operation = ESTIMATE_OPTIMIZATION_TIME;
    let answer = reader
        .read(operation, given.shared_with(operation))
        .await
        .map_err(ScopeError::Failed)?;
    let estimate = operation.select(answer);
    let time = estimate.as_ref().and_then(|estimate| estimate.get("time"));
    let seconds = time.and_then(whole_seconds).ok_or_else(|| {
        ScopeError::Failed(Failure::UnexpectedResponse(format!(
            "`{}` gave no time, so the cost cannot be worked out; nothing was sent",
            operation.name
        )))
    })?;
    Ok(Some(claimed.max(product(seconds, *price, nodes))))
}

/// A number of seconds, rounded up.
fn whole_seconds(time: &Value) -> Option<u64> {
    if let Some(seconds) = time.as_u64() {
        return Some(seconds);
    }
    let seconds = time.as_f64().filter(|seconds| *seconds >= 0.0)?;
    format!("{:.0}", seconds.ceil()).parse().ok()
}

/// Seconds × price per hour × nodes, rounded up.
fn product(seconds: u64, price: Usd, nodes: u32) -> Usd {
    let per_node = u128::from(seconds).saturating_mul(u128::from(price.0));
    let cost = per_node.saturating_mul(u128::from(nodes)).div_ceil(3_600);
    Usd(u64::try_from(cost).unwrap_or(MAX_COST).min(MAX_COST))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cost_is_rounded_up() {
        // 36 s at $15 an hour.
        assert_eq!(product(36, Usd(150_000), 1), Usd(1_500));
        assert_eq!(product(36, Usd(150_000), 4), Usd(6_000));
        assert_eq!(product(1, Usd(1), 1), Usd(1));
        assert_eq!(product(0, Usd(150_000), 4), Usd(0));
        assert_eq!(product(u64::MAX, Usd(u64::MAX), u32::MAX), Usd(MAX_COST));
    }

    #[test]
    fn only_an_amount_is_claimed() {
        assert_eq!(claimed("c", &json!(0)), Ok(Usd(0)));
        assert_eq!(claimed("c", &json!(1.00001)), Ok(Usd(10_001)));
        for bad in [
            json!(-1),
            json!(-0.0001),
            json!("1"),
            json!("NaN"),
            json!(1e300),
            json!(true),
            json!([1]),
        ] {
            assert!(
                matches!(claimed("c", &bad), Err(ScopeError::Invalid(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn seconds_are_whole() {
        assert_eq!(whole_seconds(&json!(36)), Some(36));
        assert_eq!(whole_seconds(&json!(36.2)), Some(37));
        assert_eq!(whole_seconds(&json!(-1)), None);
        assert_eq!(whole_seconds(&json!("36")), None);
        assert_eq!(whole_seconds(&Value::Null), None);
    }
}
