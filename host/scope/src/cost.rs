//! The cost of an optimisation: the larger of what the caller claims and what the host calculates.
//!
//! QuantConnect charges the node time of each backtest, whatever the number of nodes. The host asks how long one
//! backtest takes, adds half of that and half a minute to begin, multiplies by the number of backtests and the price of
//! the node type, and adds 50 %, since optimisations cost more than they are estimated at.
//!
//! The claim is never the cost by itself, and no cap. A larger one counts nevertheless, since that is the safer side: it can
//! only use up more of a budget, or be refused.
//!
//! Invariants: a claim never makes the cost smaller. What cannot be worked out is unknown and not free: without a price,
//! a grid or the time of one backtest there is no cost, whatever the caller claims.

use std::collections::BTreeMap;

use qchost_catalog::host_calls::ESTIMATE_OPTIMIZATION_TIME;
use qchost_policy::Usd;
use serde_json::Value;

use crate::arguments::{Arguments, wrong};
use crate::error::ScopeError;
use crate::reads::Reader;

/// The node types of optimisations, each with US dollars for an hour of one node and the most nodes of one optimisation:
/// what QuantConnect asked in 2026.
pub const NODE_TYPES: [(&str, Usd, u32); 3] = [
    ("O2-8", Usd(1_500), 24),
    ("O4-12", Usd(3_000), 12),
    ("O8-16", Usd(6_000), 6),
];

/// The largest amount that a decision can handle.
const MAX_COST: u64 = 9_223_372_036_854_770_000;

/// Time is counted in half seconds, so that one and a half times a number of seconds is whole.
const HALVES_PER_HOUR: u128 = 7_200;
/// What a backtest takes besides its own time: 30 s.
const SETUP_HALVES: u128 = 60;
/// The least that is charged: a tenth of an hour, and a cent.
const MIN_HALVES: u128 = 720;
const MIN_COST: u128 = 100;

/// The members of a parameter with a range. One that is named otherwise may be read by some servers, in place of these.
const RANGE: [&str; 5] = ["name", "min", "max", "step", "minStep"];

/// The caller's claim, an amount of US dollars.
pub(crate) fn claimed(name: &str, value: &Value) -> Result<Usd, ScopeError> {
    value
        .as_f64()
        .and_then(Usd::from_f64)
        .ok_or_else(|| wrong(name, "an amount of US dollars, not below 0"))
}

/// The largest number of backtests that a search of these parameters makes; `None` if they are no grid.
pub(crate) fn backtests(parameters: &[Value]) -> Option<u64> {
    let mut values = parameters.iter().map(values);
    values.try_fold(1_u64, |all, values| Some(all.saturating_mul(values?)))
}

/// The largest number of values of a parameter. A strategy that refines its steps does so down to `minStep`.
fn values(parameter: &Value) -> Option<u64> {
    let parameter = parameter.as_object()?;
    if parameter.keys().any(|key| !RANGE.contains(&key.as_str())) {
        return None;
    }
    let number = |name: &str| parameter.get(name).and_then(Value::as_f64);
    let (min, max, step) = (number("min")?, number("max")?, number("step")?);
    let step = match parameter.get("minStep") {
        None | Some(Value::Null) => step,
        Some(_) => number("minStep")?.min(step),
    };
    if step <= 0.0 || max < min {
        return None;
    }
    // What is too large to count is too large to pay.
    let steps = whole(((max - min) / step).round()).unwrap_or(u64::MAX);
    Some(steps.saturating_add(1))
}

/// Checks that no more nodes are asked for than one optimisation gets.
pub(crate) fn check_nodes(
    maxima: &BTreeMap<String, u32>,
    node_type: &str,
    nodes: u32,
) -> Result<(), ScopeError> {
    match maxima.get(node_type) {
        Some(most) if nodes > *most => Err(ScopeError::Invalid(format!(
            "an optimisation gets at most {most} nodes of type {node_type}, not {nodes}"
        ))),
        _ => Ok(()),
    }
}

/// The cost of a number of backtests; `None` if it is unknown.
pub(crate) async fn cost(
    reader: &dyn Reader,
    price: Option<Usd>,
    given: &Arguments<'_>,
    claimed: Usd,
    backtests: Option<u64>,
) -> Result<Option<Usd>, ScopeError> {
    let (Some(price), Some(backtests)) = (price, backtests) else {
        return Ok(None);
    };
    let operation = ESTIMATE_OPTIMIZATION_TIME;
    let answer = reader
        .read(operation, given.shared_with(operation))
        .await
        .map_err(ScopeError::Failed)?;
    let estimate = operation.select(answer);
    let time = estimate.as_ref().and_then(|estimate| estimate.get("time"));
    let seconds = time.and_then(whole_seconds);
    Ok(seconds.map(|seconds| claimed.max(calculated(seconds, backtests, price))))
}

/// The seconds of one backtest, rounded up. No backtest takes no time, so zero says that QuantConnect does not know.
fn whole_seconds(time: &Value) -> Option<u64> {
    let seconds = match time.as_u64() {
        Some(seconds) => seconds,
        None => whole(time.as_f64()?.ceil())?,
    };
    (seconds > 0).then_some(seconds)
}

/// A whole number that is not negative.
fn whole(number: f64) -> Option<u64> {
    format!("{number:.0}").parse().ok()
}

/// What backtests of a number of seconds each cost at a price per hour, with head-room; rounded up.
fn calculated(seconds: u64, backtests: u64, price: Usd) -> Usd {
    let each = u128::from(seconds) * 3 + SETUP_HALVES;
    let halves = each.saturating_mul(backtests.into()).max(MIN_HALVES);
    let cost = halves.saturating_mul(price.0.into());
    let cost = cost.div_ceil(HALVES_PER_HOUR).max(MIN_COST);
    let with_headroom = cost.saturating_mul(3).div_ceil(2);
    Usd(u64::try_from(with_headroom)
        .unwrap_or(MAX_COST)
        .min(MAX_COST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// $0.15 an hour.
    const PRICE: Usd = Usd(1_500);

    #[test]
    fn a_cost_follows_from_time_price_and_number_of_backtests() {
        for (seconds, backtests, price, cost) in [
            // 10 × (30 s + 1.5 × 36 s) are 14 minutes: 3.5 cents, and half of that.
            (36, 10, PRICE, 525),
            // 100 × (30 s + 1.5 × 220 s) are 10 hours.
            (220, 100, PRICE, 22_500),
            // A tenth of an hour at least.
            (1, 1, PRICE, 225),
            (1, 1, Usd(6_000), 900),
            // A cent at least.
            (1, 1, Usd(1), 150),
            // 825 s at $1 an hour: $0.22917, and half of that.
            (35, 10, Usd(10_000), 3_438),
            (u64::MAX, u64::MAX, Usd(u64::MAX), MAX_COST),
        ] {
            let calculated = calculated(seconds, backtests, price);
            assert_eq!(calculated, Usd(cost), "{seconds} {backtests} {price}");
        }
    }

    #[test]
    fn the_number_of_backtests_is_that_of_the_grid() {
        let range = |min: f64, max: f64, step: f64| json!({ "name": "p", "min": min, "max": max, "step": step });
        let refined = json!({ "name": "p", "min": 0, "max": 10, "step": 5, "minStep": 1 });
        let coarse = json!({ "name": "p", "min": 0, "max": 10, "step": 5, "minStep": null });
        for (parameters, number) in [
            (vec![], 1),
            (vec![range(1.0, 3.0, 1.0)], 3),
            (vec![range(0.1, 0.3, 0.1)], 3),
            (vec![range(1.0, 1.0, 5.0)], 1),
            (vec![range(5.0, 10.0, 5.0), range(1.0, 10.0, 1.0)], 20),
            (vec![refined], 11),
            (vec![coarse], 3),
            (vec![range(-1e308, 1e308, 1e-300)], u64::MAX),
            (vec![range(0.0, 1e18, 1.0), range(0.0, 1e18, 1.0)], u64::MAX),
        ] {
            assert_eq!(backtests(&parameters), Some(number), "{parameters:?}");
        }
        for bad in [
            json!("p"),
            json!({ "name": "p" }),
            json!({ "name": "p", "min": 2, "max": 1, "step": 1 }),
            json!({ "name": "p", "min": 1, "max": 2, "step": 0 }),
            json!({ "name": "p", "min": 1, "max": 2, "step": -1 }),
            json!({ "name": "p", "min": 1, "max": 2, "step": "1" }),
            json!({ "name": "p", "min": 1, "max": 2, "step": 1, "minStep": "0.1" }),
            json!({ "name": "p", "min": 1, "max": 2, "step": 1, "minStep": 0 }),
            // Some servers read the last of the spellings.
            json!({ "name": "p", "min": 1, "max": 2, "step": 1, "Step": 0.001 }),
        ] {
            let parameters = [range(1.0, 3.0, 1.0), bad];
            assert_eq!(backtests(&parameters), None, "{parameters:?}");
        }
    }

    #[test]
    fn no_more_nodes_are_taken_than_one_optimisation_gets() {
        let maxima = NODE_TYPES.map(|(name, _, most)| (name.to_owned(), most));
        let maxima = BTreeMap::from(maxima);
        let check = |node_type: &str, nodes| check_nodes(&maxima, node_type, nodes);
        assert_eq!(check("O2-8", 24), Ok(()));
        assert_eq!(
            check("O99", u32::MAX),
            Ok(()),
            "what is unknown is for the server to refuse"
        );
        let error = check("O8-16", 7).unwrap_err().to_string();
        assert!(
            error.contains("at most 6 nodes of type O8-16, not 7"),
            "{error}"
        );
    }

    proptest! {
        /// However large the numbers: a cost is an amount that a decision can handle, no argument that grows makes it
        /// smaller, and it is never below the estimate without head-room.
        #[test]
        fn a_cost_is_an_amount_and_grows_with_all_it_depends_on(
            seconds in any::<u64>(), backtests in any::<u64>(), price in any::<u64>(), more in any::<u64>()
        ) {
            let Usd(cost) = calculated(seconds, backtests, Usd(price));
            prop_assert!((150..=MAX_COST).contains(&cost));
            let grown = [
                (seconds.saturating_add(more), backtests, price),
                (seconds, backtests.saturating_add(more), price),
                (seconds, backtests, price.saturating_add(more)),
            ];
            for (seconds, backtests, price) in grown {
                prop_assert!(calculated(seconds, backtests, Usd(price)).0 >= cost);
            }
        }

        /// In the range of real searches, it is the formula.
        #[test]
        fn a_cost_is_that_of_the_formula(seconds in 1..100_000_u32, backtests in 1..100_000_u32, price in 1..1_000_000_u32) {
            let hours = (30.0 + 1.5 * f64::from(seconds)) * f64::from(backtests) / 3_600.0;
            let estimate = (hours.max(0.1) * f64::from(price) / 10_000.0).max(0.01);
            let Usd(cost) = calculated(seconds.into(), backtests.into(), Usd(price.into()));
            let cost: f64 = cost.to_string().parse().unwrap();
            let expected = estimate * 1.5 * 10_000.0;
            prop_assert!(cost >= expected - 0.01 - expected * 1e-12, "{cost} for {expected}");
            prop_assert!(cost <= expected + 3.0 + expected * 1e-12, "{cost} for {expected}");
        }

        /// Whatever a parameter is, counting its values ends, and gives at least one.
        #[test]
        fn any_range_is_counted(min in any::<f64>(), max in any::<f64>(), step in any::<f64>(), fine in any::<Option<f64>>()) {
            let parameter = json!({ "name": "p", "min": min, "max": max, "step": step, "minStep": fine });
            if let Some(number) = backtests(&[parameter]) {
                prop_assert!(number >= 1);
            }
        }
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
        assert_eq!(whole_seconds(&json!(0)), None, "no backtest takes no time");
        assert_eq!(whole_seconds(&json!(0.2)), Some(1));
        assert_eq!(whole_seconds(&json!(-1)), None);
        assert_eq!(whole_seconds(&json!(-0.5)), None);
        assert_eq!(whole_seconds(&json!("36")), None);
        assert_eq!(whole_seconds(&Value::Null), None);
    }
}
