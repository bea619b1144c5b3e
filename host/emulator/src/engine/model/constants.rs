//! The numbers that the model assumes, and the bounds of what it reads and runs.

use jiff::civil::{Date, date};

/// The name in answers and logs.
pub(super) const NAME: &str = "qchost emulator model";
/// First day that a backtest may start on; LEAN's data begin then, too.
pub(super) const FIRST_DAY: Date = date(1998, 1, 1);
/// Last day of prices.
pub(super) const LAST_DAY: Date = date(2035, 12, 31);
pub(super) const DEFAULT_START: Date = FIRST_DAY;
pub(super) const DEFAULT_END: Date = date(2025, 12, 31);
pub(super) const DEFAULT_CASH: f64 = 100_000.0;
pub(super) const DEFAULT_BENCHMARK: &str = "SPY";
pub(super) const MAX_CASH: f64 = 1e12;
pub(super) const MAX_SECURITIES: usize = 500;
/// In days or bars.
pub(super) const MAX_WARM_UP: u32 = 20_000;
/// Of a moving average, in days.
pub(super) const MAX_PERIOD: u32 = 10_000;
/// Of one order, and the greatest weight.
pub(super) const MAX_SHARES: f64 = 1e9;
/// Securities times trading days of one run.
pub(super) const MAX_POSITION_DAYS: usize = 500_000;
pub(super) const MAX_ORDERS: usize = 10_000;
/// The part of the portfolio that a weight leaves in cash.
pub(super) const CASH_BUFFER: f64 = 0.002_5;
pub(super) const FEE_PER_SHARE: f64 = 0.005;
/// Of the value.
pub(super) const MAX_FEE_FRACTION: f64 = 0.005;
/// In US dollars.
pub(super) const MIN_FEE: f64 = 1.0;
/// The most that all positions may be worth, in equity.
pub(super) const MAX_LEVERAGE: f64 = 2.0;
/// The least equity in the positions.
pub(super) const MAINTENANCE_MARGIN: f64 = 0.25;
/// The part of a security's daily volume that a strategy could trade.
pub(super) const CAPACITY_SHARE: f64 = 0.01;
/// Classes; deeper inheritance is not followed, since it could be circular.
pub(super) const MAX_INHERITANCE: usize = 16;
