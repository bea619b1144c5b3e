//! The trading rules that follow from a plan, and the moving averages in them.
//!
//! Invariant: a rule for a security exists only if the source has a call that opens a position in
//! it. [`Rule::describe`] states all that the rule depends on.

use super::numbers::display_float;
use super::plan::{Average, AverageKind, Plan, Size};

/// One line of a crossover: a moving average, or the close itself (one day).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    kind: AverageKind,
    period: u32,
}

impl Line {
    const CLOSE: Self = Self {
        kind: AverageKind::Simple,
        period: 1,
    };

    fn describe(self) -> String {
        match (self.kind, self.period) {
            (_, 1) => "the close".to_owned(),
            (AverageKind::Simple, period) => format!("SMA({period})"),
            (AverageKind::Exponential, period) => format!("EMA({period})"),
        }
    }

    /// The line's value after each close; `None` until it has seen its period. The exponential
    /// average starts as the simple one.
    fn values(self, closes: &[f64]) -> Vec<Option<f64>> {
        let period = usize::try_from(self.period).unwrap_or(usize::MAX);
        let length = f64::from(self.period);
        let weight = 2.0 / (length + 1.0);
        let mut values: Vec<Option<f64>> = Vec::with_capacity(closes.len());
        let mut sum = 0.0;
        let mut average = 0.0;
        for (day, close) in closes.iter().enumerate() {
            let count = day + 1;
            match self.kind {
                AverageKind::Exponential if count > period => {
                    average = close * weight + average * (1.0 - weight);
                }
                _ => {
                    sum += close;
                    if let Some(old) = day.checked_sub(period) {
                        sum -= closes.get(old).copied().unwrap_or_default();
                    }
                    average = sum / length;
                }
            }
            values.push((count >= period).then_some(average));
        }
        values
    }
}

/// When to hold which position.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Signal {
    /// From the first day on.
    Always,
    /// While `fast` is above `slow` the upper position, otherwise the lower one.
    Cross {
        /// The security whose closes the lines follow.
        security: usize,
        /// The line with the shorter period.
        fast: Line,
        /// The line with the longer period.
        slow: Line,
    },
}

/// The rule for one security.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) security: usize,
    pub(super) signal: Signal,
    /// The position while the signal is up; `None` is none.
    pub(super) up: Option<Size>,
    /// The position while the signal is down; `None` is none.
    pub(super) down: Option<Size>,
}

impl Rule {
    /// How many closes the slower line needs.
    pub(super) fn period(&self) -> u32 {
        match &self.signal {
            Signal::Always => 1,
            Signal::Cross { slow, fast, .. } => slow.period.max(fast.period),
        }
    }

    /// After each close whether the signal is up; `None` while a line is not ready.
    pub(super) fn signals(&self, closes: &[f64]) -> Vec<Option<bool>> {
        match &self.signal {
            Signal::Always => vec![Some(true); closes.len()],
            Signal::Cross { fast, slow, .. } => fast
                .values(closes)
                .into_iter()
                .zip(slow.values(closes))
                .map(|(fast, slow)| Some(fast? > slow?))
                .collect(),
        }
    }

    /// The rule in words, for the log.
    pub(super) fn describe(&self, plan: &Plan) -> String {
        let position = |size: Option<Size>| match size {
            None => "nothing".to_owned(),
            Some(Size::Weight(weight)) => {
                format!("{} of the portfolio", display_float(weight))
            }
            Some(Size::Shares(shares)) => format!("{shares} shares"),
        };
        let traded = plan.ticker(self.security);
        match &self.signal {
            Signal::Always => format!("{traded}: hold {} from the first day", position(self.up)),
            Signal::Cross {
                security,
                fast,
                slow,
            } => {
                let (up, down) = (position(self.up), position(self.down));
                let (fast, slow) = (fast.describe(), slow.describe());
                let of = plan.ticker(*security);
                format!("{traded}: hold {up} while {fast} of {of} is above {slow}, else {down}")
            }
        }
    }
}

/// The rules of a plan, in the order of its securities.
pub(super) fn rules(plan: &Plan) -> Vec<Rule> {
    // A security without averages of its own follows the first that has some.
    let leader = (0..plan.securities.len()).find_map(|security| cross(plan, security));
    (0..plan.securities.len())
        .filter_map(|security| {
            let mine = plan
                .entries
                .iter()
                .filter(|entry| entry.security.is_none_or(|only| only == security))
                .map(|entry| entry.size);
            let (long, short): (Vec<Size>, Vec<Size>) = mine.partition(|size| size.amount() > 0.0);
            let long = long.first().copied();
            // Beside a purchase, a sale of shares only closes it.
            let short = short
                .into_iter()
                .find(|size| long.is_none() || matches!(size, Size::Weight(_)));
            if long.is_none() && short.is_none() {
                return None;
            }
            let signal = cross(plan, security)
                .or_else(|| leader.clone())
                .unwrap_or(Signal::Always);
            let (up, down) = match &signal {
                Signal::Always => (long.or(short), None),
                Signal::Cross { .. } => (long, short),
            };
            Some(Rule {
                security,
                signal,
                up,
                down,
            })
        })
        .collect()
}

/// The crossover of a security's own averages: the one with the shortest period against the one
/// with the longest, or the close against the only one.
fn cross(plan: &Plan, security: usize) -> Option<Signal> {
    let line = |average: &Average| Line {
        kind: average.kind,
        period: average.period,
    };
    let lines: Vec<Line> = plan
        .averages
        .iter()
        .filter(|average| average.security.is_none_or(|only| only == security))
        .map(line)
        .collect();
    let fast = *lines.iter().min_by_key(|line| line.period)?;
    let slow = *lines.iter().max_by_key(|line| line.period)?;
    let fast = if lines.len() == 1 { Line::CLOSE } else { fast };
    Some(Signal::Cross {
        security,
        fast,
        slow,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn line(kind: AverageKind, period: u32) -> Line {
        Line { kind, period }
    }

    #[test]
    fn averages_are_those_of_the_last_closes() {
        let closes = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(
            line(AverageKind::Simple, 3).values(&closes),
            [None, None, Some(2.0), Some(11.0 / 3.0)]
        );
        // Starts as (1 + 2 + 3) / 3 and then takes half of the new close.
        assert_eq!(
            line(AverageKind::Exponential, 3).values(&closes),
            [None, None, Some(2.0), Some(4.0)]
        );
        assert_eq!(Line::CLOSE.values(&closes)[3], Some(6.0));
    }
}
