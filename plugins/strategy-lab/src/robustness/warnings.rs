//! What the numbers mean for a person who decides about a strategy.
//!
//! Invariant: a sentence names the number behind it and the threshold that it crosses; without a number there is no warning.

use super::Findings;

/// Fewest closed trades that say something.
const MIN_TRADES: usize = 30;
/// Fewest returns that say something: about a year of days.
const MIN_OBSERVATIONS: usize = 250;
/// Confidence that is asked of a probabilistic and a deflated Sharpe ratio.
pub(super) const CONFIDENCE: f64 = 0.95;
/// A probability of overfitting from which on the choice is no better than chance.
const COIN_TOSS: f64 = 0.5;
/// A probability of overfitting that is no longer small.
const NOTICEABLE_OVERFITTING: f64 = 0.2;
/// A probability of a loss out of sample that is no longer small.
const NOTICEABLE_LOSS: f64 = 0.25;
/// What a neighbour may lose of the optimum.
pub(super) const TOLERANCE: f64 = 0.2;
/// The share of the neighbours that should keep most of the optimum.
const ROBUST_NEIGHBOURS: f64 = 0.5;
/// How much deeper than the backtest's the drawdown may be in 5 % of the orders of its trades.
const DEEPER: f64 = 1.5;
/// A share of bootstraps that end with a loss that is no longer small.
const NOTICEABLE_LOSSES: f64 = 0.05;
/// Fees should be bearable at this multiple.
const BEARABLE_FEES: f64 = 2.0;
/// Slippage should be bearable up to this, in basis points of the traded value.
const BEARABLE_SLIPPAGE: f64 = 5.0;
/// The share of the in-sample return that should be left out of sample.
const EFFICIENT: f64 = 0.5;

/// The warnings that the findings give, the most fundamental first.
pub(super) fn warnings(findings: &Findings) -> Vec<String> {
    let mut warnings = Vec::new();
    history(findings, &mut warnings);
    selection(findings, &mut warnings);
    trades(findings, &mut warnings);
    forward(findings, &mut warnings);
    warnings
}

/// Whether there is enough to judge by.
fn history(findings: &Findings, warnings: &mut Vec<String>) {
    let returns = &findings.returns;
    if returns.observations < MIN_OBSERVATIONS {
        warnings.push(format!(
            "The backtest has {} returns. Fewer than {MIN_OBSERVATIONS} say little about the future.",
            returns.observations
        ));
    }
    if let Some(length) = findings.minimum_track_record
        && length > returns.observations as f64
    {
        warnings.push(format!(
            "The backtest is too short: {} returns, and a Sharpe ratio of {:.2} needs {length:.0} to be above 0 with {} confidence.",
            returns.observations,
            returns.sharpe_ratio,
            percent(CONFIDENCE),
        ));
    }
    if let Some(probability) = findings.probabilistic_sharpe_ratio
        && probability < CONFIDENCE
    {
        warnings.push(format!(
            "The probability that the true Sharpe ratio is above 0 is {}. It should be at least {}.",
            percent(probability),
            percent(CONFIDENCE),
        ));
    }
}

/// Whether the choice among many explains the result.
fn selection(findings: &Findings, warnings: &mut Vec<String>) {
    if let (Some(deflated), Some(expected)) = (
        findings.deflated_sharpe_ratio,
        findings.expected_maximum_sharpe_ratio,
    ) && deflated < CONFIDENCE
    {
        warnings.push(format!(
            "After {} trials, luck alone would show a Sharpe ratio of {expected:.2}. The probability that this one, {:.2}, is more \
             than luck is {}. It should be at least {}.",
            findings.trials,
            findings.returns.sharpe_ratio,
            percent(deflated),
            percent(CONFIDENCE),
        ));
    }
    if let Some(found) = &findings.overfitting {
        if found.probability >= COIN_TOSS {
            warnings.push(format!(
                "In {} of the splits of history, the parameters that were best in one half were below the middle in the other: \
                 choosing by the backtest is no better than chance.",
                percent(found.probability)
            ));
        } else if found.probability > NOTICEABLE_OVERFITTING {
            warnings.push(format!(
                "The probability that the choice of parameters is overfitted is {}. It should be at most {}.",
                percent(found.probability),
                percent(NOTICEABLE_OVERFITTING),
            ));
        }
        if found.probability_of_loss > NOTICEABLE_LOSS {
            warnings.push(format!(
                "The parameters that were best in one half of history lost money in the other in {} of the splits. It should be at \
                 most {}.",
                percent(found.probability_of_loss),
                percent(NOTICEABLE_LOSS),
            ));
        }
    }
    if let Some(found) = &findings.sensitivity
        && found.share_above < ROBUST_NEIGHBOURS
    {
        warnings.push(format!(
            "The result depends on the exact parameters: {} of the {} neighbouring combinations keep {} of the best Sharpe ratio. It \
             should be at least {}.",
            percent(found.share_above),
            found.neighbours,
            percent(1.0 - TOLERANCE),
            percent(ROBUST_NEIGHBOURS),
        ));
    }
}

/// Whether the trades bear another order and higher costs.
fn trades(findings: &Findings, warnings: &mut Vec<String>) {
    if findings.trades < MIN_TRADES {
        warnings.push(format!(
            "The backtest has {} closed trades. Fewer than {MIN_TRADES} may be luck.",
            findings.trades
        ));
    }
    if let (Some(found), Some(drawdown)) = (&findings.reordered, findings.trade_drawdown)
        && found.drawdown.q95 > DEEPER * drawdown
    {
        warnings.push(format!(
            "The order of the trades was lucky: in 5 % of other orders the drawdown is {} or more, and in the backtest it is {}.",
            percent(found.drawdown.q95),
            percent(drawdown),
        ));
    }
    if let Some(found) = &findings.redrawn {
        if found.share_of_losses > NOTICEABLE_LOSSES {
            warnings.push(format!(
                "{} of the series of as many trades drawn from these end with a loss. It should be at most {}.",
                percent(found.share_of_losses),
                percent(NOTICEABLE_LOSSES),
            ));
        }
        if found.share_of_ruins > 0.0 {
            warnings.push(format!(
                "{} of the series of as many trades drawn from these lose the whole equity.",
                percent(found.share_of_ruins)
            ));
        }
    }
    let Some(found) = &findings.stress else {
        return;
    };
    if found.net_profit <= 0.0 {
        warnings.push(format!(
            "The closed trades lose money after fees: {:.2} in the account's currency.",
            found.net_profit
        ));
        return;
    }
    if let Some(multiple) = found.break_even_fees
        && multiple < BEARABLE_FEES
    {
        warnings.push(format!(
            "The profit is gone at {multiple:.2} times the fees. It should bear {BEARABLE_FEES:.0} times."
        ));
    }
    if let Some(points) = found.break_even_slippage
        && points < BEARABLE_SLIPPAGE
    {
        warnings.push(format!(
            "The profit is gone at a slippage of {points:.2} basis points of the traded value. It should bear {BEARABLE_SLIPPAGE:.0}."
        ));
    }
}

/// Whether what was best before was good afterwards.
fn forward(findings: &Findings, warnings: &mut Vec<String>) {
    let Some(found) = &findings.walk_forward else {
        return;
    };
    match found.efficiency {
        Some(efficiency) if efficiency < EFFICIENT => warnings.push(format!(
            "Walking forward, {} of the in-sample return is left out of sample. It should be at least {}.",
            percent(efficiency),
            percent(EFFICIENT),
        )),
        None => warnings.push(
            "Walking forward, even the best parameters of each in-sample period lost money in it together.".to_owned(),
        ),
        Some(_) => {}
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
