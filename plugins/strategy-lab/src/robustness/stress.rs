//! What higher costs leave of the profit: multiples of the fees, and slippage on the traded value.

use schemars::JsonSchema;
use serde::Serialize;

use super::undefined::{Undefined, check, finite};

/// The multiples of the fees that are tried; 1 is what the backtest charged.
const FEE_MULTIPLES: [f64; 6] = [0.0, 1.0, 1.5, 2.0, 3.0, 5.0];
/// The slippages that are tried, in basis points of the traded value, on top of that of the backtest.
const SLIPPAGES: [f64; 6] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
/// A basis point as a fraction.
const BASIS_POINT: f64 = 1e-4;

/// What one closed trade contributes. Amounts are in the account's currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trade {
    /// Profit or loss before fees.
    pub(crate) profit: f64,
    /// Fees, not negative.
    pub(crate) fees: f64,
    /// Value of entry and exit together, price times units; `None` if a price is not known.
    pub(crate) traded: Option<f64>,
}

impl Trade {
    /// Profit or loss after fees.
    pub(crate) fn net(&self) -> f64 {
        self.profit - self.fees
    }
}

/// The net profit under higher costs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Stress {
    /// Profit after fees as the backtest has it, in the account's currency.
    pub(crate) net_profit: f64,
    /// Net profit with the fees times a factor.
    pub(crate) fees: Vec<Level>,
    /// The factor of the fees at which the net profit is 0; null if there are no fees or no profit before them.
    pub(crate) break_even_fees: Option<f64>,
    /// Net profit with slippage in basis points of the traded value; empty if a price is not known.
    pub(crate) slippage: Vec<Level>,
    /// The slippage in basis points at which the net profit is 0; null if that is not known or there is no net profit.
    pub(crate) break_even_slippage: Option<f64>,
    /// The additional cost of each trade at which the net profit is 0, in the account's currency; negative if there is a loss.
    pub(crate) break_even_per_trade: f64,
}

/// The profit at one level of costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Level {
    /// The factor of the fees, or the slippage in basis points.
    pub(crate) cost: f64,
    /// What is left, in the account's currency.
    pub(crate) net_profit: f64,
}

/// The profit of trades under higher costs: Σprofit - k·Σfees, and Σ(profit - fees) - b·10⁻⁴·Σtraded. The break-even points
/// are where these are 0.
///
/// # Errors
/// [`Undefined::TooFew`] without trades, [`Undefined::NotFinite`], and [`Undefined::OutOfRange`] for fees or a traded value
/// below 0.
pub(crate) fn stress(trades: &[Trade]) -> Result<Stress, Undefined> {
    let profits: Vec<f64> = trades.iter().map(|it| it.profit).collect();
    let fees: Vec<f64> = trades.iter().map(|it| it.fees).collect();
    let traded: Option<Vec<f64>> = trades.iter().map(|it| it.traded).collect();
    check(&profits, "trades", 1)?;
    check(&fees, "trades", 1)?;
    let amounts = fees.iter().chain(traded.iter().flatten());
    if amounts.into_iter().any(|amount| *amount < 0.0) {
        return Err(Undefined::OutOfRange(
            "fees and traded values are not negative",
        ));
    }
    let (gross, fees) = (finite(profits.iter().sum())?, finite(fees.iter().sum())?);
    let traded = traded.map(|it| finite(it.iter().sum())).transpose()?;
    let net = finite(gross - fees)?;
    let levels = |costs: [f64; 6], left: &dyn Fn(f64) -> f64| {
        let level = |cost| {
            Ok(Level {
                cost,
                net_profit: finite(left(cost))?,
            })
        };
        costs.into_iter().map(level).collect::<Result<Vec<_>, _>>()
    };
    let quotient = |amount: f64, of: f64| (amount > 0.0 && of > 0.0).then(|| amount / of);
    Ok(Stress {
        net_profit: net,
        fees: levels(FEE_MULTIPLES, &|factor| gross - factor * fees)?,
        break_even_fees: quotient(gross, fees).filter(|it| it.is_finite()),
        slippage: match traded {
            Some(traded) => levels(SLIPPAGES, &|points| net - points * BASIS_POINT * traded)?,
            None => Vec::new(),
        },
        break_even_slippage: traded
            .and_then(|traded| quotient(net, BASIS_POINT * traded))
            .filter(|it| it.is_finite()),
        break_even_per_trade: net / trades.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trade(profit: f64, fees: f64, traded: Option<f64>) -> Trade {
        Trade {
            profit,
            fees,
            traded,
        }
    }

    #[test]
    fn costs_eat_the_profit_up_to_the_break_even_point() {
        let trades = [
            trade(100.0, 10.0, Some(10_000.0)),
            trade(-40.0, 10.0, Some(10_000.0)),
        ];
        let found = stress(&trades).unwrap();
        assert_eq!((found.net_profit, found.break_even_fees), (40.0, Some(3.0)));
        assert_eq!(found.break_even_slippage, Some(20.0));
        assert_eq!(found.break_even_per_trade, 20.0);
        let fees: Vec<f64> = found.fees.iter().map(|it| it.net_profit).collect();
        assert_eq!(fees, [60.0, 40.0, 30.0, 20.0, 0.0, -40.0]);
        let slippage: Vec<f64> = found.slippage.iter().map(|it| it.net_profit).collect();
        assert_eq!(slippage, [38.0, 36.0, 30.0, 20.0, 0.0, -60.0]);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let found = stress(&[trade(-5.0, 0.0, None), trade(1.0, 0.0, Some(7.0))]).unwrap();
        assert_eq!(
            (found.break_even_fees, found.break_even_slippage),
            (None, None)
        );
        assert!(found.slippage.is_empty());
        assert_eq!(found.break_even_per_trade, -2.0);
        for (trades, reason) in [
            (vec![], "at least 1 trades, and there are 0"),
            (vec![trade(f64::NAN, 0.0, None)], "not finite"),
            (vec![trade(1.0, -1.0, None)], "not negative"),
            (vec![trade(1.0, 1.0, Some(f64::INFINITY))], "not finite"),
            (vec![trade(1.0, f64::MAX, None)], "not finite"),
        ] {
            let error = stress(&trades).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn higher_costs_never_leave_more(
            trades in proptest::collection::vec((-100.0..100.0f64, 0.0..9.0f64, 0.0..1e6f64), 1..30),
        ) {
            let trades: Vec<Trade> = trades.iter().map(|(profit, fees, traded)| trade(*profit, *fees, Some(*traded))).collect();
            let found = stress(&trades).unwrap();
            let falls = |levels: &[Level]| levels.is_sorted_by(|a, b| a.net_profit >= b.net_profit);
            prop_assert!(falls(&found.fees) && falls(&found.slippage));
        }
    }
}
