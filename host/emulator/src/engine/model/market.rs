//! Synthetic daily prices, one series a ticker.
//!
//! A series is a function of its ticker alone. Every window is computed from 1998-01-02 on, so
//! windows agree where they overlap. The daily return is
//!
//! ```text
//! return = drift + regime + beta · market + volatility · z
//! ```
//!
//! where `market` is one series for all tickers, of the same form, `regime` is a drift that holds
//! for 40 to 199 trading days and then changes (this is what a moving average can follow), and `z`
//! is a standard random number. The open lies a random part of the way between the closes.
//! Prices are in US dollars and cents and never below one dollar.
//!
//! Invariant: only additions, multiplications and divisions of doubles in a fixed order, so that
//! every machine computes the same bits. The random numbers are SplitMix64 (Steele, Lea and Flood,
//! 2014), seeded from the SHA-256 of the ticker; a standard one is the sum of twelve 16-bit uniform
//! ones, less six (Irwin and Hall).

use sha2::{Digest as _, Sha256};

/// Changing anything about the series means changing this, and with it every price.
const SEED_PREFIX: &str = "qchost emulator prices 1:";
/// The lowest price.
const FLOOR: f64 = 1.0;
const MARKET_DRIFT: f64 = 0.000_25;
const MARKET_VOLATILITY: f64 = 0.009;
const MARKET_REGIME: f64 = 0.000_8;

/// One ticker's prices; the index is that of the trading day since 1998-01-02.
#[derive(Debug, Clone)]
pub(super) struct Prices {
    /// Opening prices.
    pub(super) open: Vec<f64>,
    /// Closing prices.
    pub(super) close: Vec<f64>,
    /// Average traded volume a day, in US dollars.
    pub(super) dollar_volume: f64,
}

/// The returns that all series share.
pub(super) struct Market {
    returns: Vec<f64>,
}

impl Market {
    /// The returns of the first `days` trading days from 1998-01-02.
    pub(super) fn new(days: usize) -> Self {
        let mut random = Random::seeded("the market");
        let mut regime = Regime::new(MARKET_REGIME);
        let returns = (0..days)
            .map(|_| {
                MARKET_DRIFT + regime.next(&mut random) + MARKET_VOLATILITY * random.standard()
            })
            .collect();
        Self { returns }
    }

    /// Computes the prices of a ticker.
    pub(super) fn prices(&self, ticker: &str) -> Prices {
        let mut random = Random::seeded(ticker);
        let mut previous = 20.0 + 180.0 * random.uniform();
        let beta = 0.5 + random.uniform();
        let volatility = 0.004 + 0.012 * random.uniform();
        let drift = 0.000_3 * random.uniform() - 0.000_1;
        let dollar_volume = 1e6 * (1.0 + 999.0 * random.uniform());
        let mut regime = Regime::new(0.000_4 + 0.001_6 * random.uniform());
        let mut open = Vec::with_capacity(self.returns.len());
        let mut close = Vec::with_capacity(self.returns.len());
        for market in &self.returns {
            let gain =
                drift + regime.next(&mut random) + beta * market + volatility * random.standard();
            let overnight = gain * random.uniform() * 0.5 + volatility * 0.1 * random.standard();
            let next = (previous * (1.0 + gain)).max(FLOOR);
            open.push(cents((previous * (1.0 + overnight)).max(FLOOR)));
            close.push(cents(next));
            previous = next;
        }
        Prices {
            open,
            close,
            dollar_volume,
        }
    }
}

/// Rounded to cents.
fn cents(price: f64) -> f64 {
    libm::round(price * 100.0) / 100.0
}

/// A drift that holds for a while.
struct Regime {
    strength: f64,
    current: f64,
    days_left: u64,
}

impl Regime {
    fn new(strength: f64) -> Self {
        Self {
            strength,
            current: 0.0,
            days_left: 0,
        }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        if self.days_left == 0 {
            self.days_left = 40 + random.next() % 160;
            self.current = self.strength * (2.0 * random.uniform() - 1.0);
        }
        self.days_left -= 1;
        self.current
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn seeded(name: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(SEED_PREFIX)
            .chain_update(name)
            .finalize();
        let seed = digest.first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        let [.., high, low] = self.next().to_be_bytes().map(f64::from);
        (high * 256.0 + low) / 65_536.0
    }

    /// Mean 0, variance 1, between -6 and 6.
    fn standard(&mut self) -> f64 {
        let mut sum = 0.0;
        for _ in 0..3 {
            let bytes = self.next().to_be_bytes();
            for pair in bytes.chunks_exact(2) {
                if let [high, low] = pair {
                    sum += f64::from(u16::from_be_bytes([*high, *low]));
                }
            }
        }
        // Each uniform number is a whole multiple of 2^-16 and half of that short of even.
        (sum + 6.0) / 65_536.0 - 6.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // The reference implementation's first numbers for the seed 1234567.
        let mut random = Random(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn standard_numbers_have_mean_zero_and_variance_one() {
        let mut random = Random::seeded("test");
        let numbers: Vec<f64> = (0..50_000).map(|_| random.standard()).collect();
        let mean = numbers.iter().sum::<f64>() / 50_000.0;
        let variance = numbers.iter().map(|z| (z - mean) * (z - mean)).sum::<f64>() / 50_000.0;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn a_longer_window_only_adds_days() {
        let (short, long) = (
            Market::new(500).prices("SPY"),
            Market::new(800).prices("SPY"),
        );
        assert_eq!(short.close[..], long.close[..500]);
        assert_eq!(short.open[..], long.open[..500]);
    }

    #[test]
    fn prices_look_like_prices() {
        let market = Market::new(7_000);
        for ticker in ["SPY", "QQQ", "TLT", "AAPL", "X"] {
            let prices = market.prices(ticker);
            let returns: Vec<f64> = prices.close.windows(2).map(|p| p[1] / p[0] - 1.0).collect();
            let count = f64::from(u32::try_from(returns.len()).unwrap_or(1));
            let mean = returns.iter().sum::<f64>() / count;
            let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / count;
            let annual = (variance * 252.0).sqrt();
            assert!(
                (0.08..0.45).contains(&annual),
                "{ticker}: volatility {annual}"
            );
            assert!(prices.close.iter().chain(&prices.open).all(|p| *p >= FLOOR));
        }
    }
}
