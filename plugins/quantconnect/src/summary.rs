//! What `run` and `status` say of a backtest, and of an error of the code.

use qchost_sdk::ai::ErrorReport;
use qchost_sdk::backtests::{Backtest, BacktestStatus};
use qchost_sdk::prelude::*;
use qchost_sdk::types::Language;
use serde::Serialize;

/// Most of an error's text that is passed on, in bytes.
const MAX_ERROR: usize = 16 << 10;

/// Where a backtest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It waits for a node.
    Queued,
    /// It runs.
    Running,
    /// It ended without an error.
    Completed,
    /// The algorithm failed.
    Failed,
    /// QuantConnect names a state that this version does not know.
    Unknown,
}

/// A statistic.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Statistic {
    /// Name as QuantConnect writes it, such as `Sharpe Ratio`.
    name: String,
    /// Value as QuantConnect writes it, such as `12.3%`.
    text: String,
    /// Value as a number, if it is one; a percentage is a fraction: 0.123.
    value: Option<f64>,
}

/// A backtest, summarised.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Summary {
    /// Identifies the backtest at QuantConnect.
    pub(crate) backtest_id: String,
    /// Name of the backtest.
    name: Option<String>,
    /// Where it is.
    pub(crate) state: State,
    /// Share of it that is done, from 0 to 1.
    pub(crate) progress: Option<f64>,
    /// First simulated instant, UTC.
    start: Option<String>,
    /// Last simulated instant, UTC.
    end: Option<String>,
    /// Statistics, once it has ended.
    statistics: Vec<Statistic>,
    /// Statistics as of the last update while it runs, such as `Equity`.
    runtime_statistics: Vec<Statistic>,
}

impl Summary {
    pub(crate) fn of(backtest: &Backtest) -> Self {
        let statistics = |all: &[qchost_sdk::types::Statistic]| {
            let all = all.iter();
            all.map(|it| Statistic {
                name: it.name.clone(),
                text: it.text.clone(),
                value: it.value,
            })
            .collect()
        };
        Self {
            backtest_id: backtest.backtest_id.clone(),
            name: backtest.name.clone(),
            state: state(backtest),
            progress: backtest.progress,
            start: backtest.backtest_start.clone(),
            end: backtest.backtest_end.clone(),
            statistics: statistics(&backtest.statistics),
            runtime_statistics: statistics(&backtest.runtime_statistics),
        }
    }
}

/// Where a backtest is; one with an error failed, whatever its status says.
pub(crate) fn state(backtest: &Backtest) -> State {
    if backtest.error.is_some() {
        return State::Failed;
    }
    match &backtest.status {
        Some(BacktestStatus::Completed) => State::Completed,
        Some(BacktestStatus::InQueue) => State::Queued,
        Some(BacktestStatus::Running) => State::Running,
        Some(BacktestStatus::RuntimeError) => State::Failed,
        Some(BacktestStatus::Other(_)) | None if backtest.completed == Some(true) => {
            State::Completed
        }
        Some(BacktestStatus::Other(_)) | None => State::Unknown,
    }
}

/// An error of the code with what QuantConnect says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Problem {
    /// The words of the compiler or the algorithm.
    pub(crate) message: String,
    /// Stack trace of the algorithm.
    stacktrace: Option<String>,
    /// QuantConnect's explanation, and what to do.
    explanation: Option<String>,
    /// Why there is no explanation.
    no_explanation: Option<String>,
}

impl Problem {
    /// Asks QuantConnect to explain an error. That it cannot is no failure.
    pub(crate) fn explained(language: &Language, message: &str, stacktrace: Option<&str>) -> Self {
        let (message, stacktrace) = (bounded(message), stacktrace.map(bounded));
        let stacktrace = stacktrace.filter(|trace| !trace.is_empty() && *trace != message);
        let asked = ai::enhance_error_message(
            language,
            &ErrorReport {
                message: message.clone(),
                stacktrace: stacktrace.clone(),
            },
        );
        let answer = asked.map_err(|error| error.to_string());
        let (explanation, no_explanation) = match answer.map(|answer| answer.payload) {
            Ok(Some(text)) if !text.trim().is_empty() => (Some(bounded(&text)), None),
            Ok(_) => (
                None,
                Some("QuantConnect has no explanation of it".to_owned()),
            ),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            message,
            stacktrace,
            explanation,
            no_explanation,
        }
    }

    /// The error of a backtest that failed.
    pub(crate) fn of(language: &Language, backtest: &Backtest) -> Option<Self> {
        if state(backtest) != State::Failed {
            return None;
        }
        let error = backtest.error.as_deref();
        let message = error.unwrap_or("the algorithm failed without a message");
        Some(Self::explained(
            language,
            message,
            backtest.stacktrace.as_deref(),
        ))
    }

    /// The failure of an action: all of it as one text.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let mut text = format!("{what}:\n{}", self.message);
        if let Some(stacktrace) = &self.stacktrace {
            text.push_str(&format!("\n{stacktrace}"));
        }
        match (&self.explanation, &self.no_explanation) {
            (Some(explanation), _) => {
                text.push_str(&format!("\n\nQuantConnect explains: {explanation}"));
            }
            (None, Some(reason)) => text.push_str(&format!("\n\nwithout an explanation: {reason}")),
            (None, None) => {}
        }
        Failure::failed(text)
    }
}

/// The beginning of a text, and a mark if there is more.
fn bounded(text: &str) -> String {
    let text = text.trim();
    if text.len() <= MAX_ERROR {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_ERROR);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn backtest(status: BacktestStatus) -> Backtest {
        Backtest {
            backtest_id: "b".into(),
            status: Some(status),
            ..Backtest::default()
        }
    }

    #[test]
    fn an_error_is_a_failure_whatever_the_status() {
        let mut failed = backtest(BacktestStatus::Completed);
        assert_eq!(state(&failed), State::Completed);
        failed.error = Some("division by zero".into());
        assert_eq!(state(&failed), State::Failed);
        assert_eq!(
            state(&backtest(BacktestStatus::RuntimeError)),
            State::Failed
        );
    }

    #[test]
    fn a_status_that_is_not_known_is_not_a_success() {
        let mut other = backtest(BacktestStatus::Other("Paused".into()));
        assert_eq!(state(&other), State::Unknown);
        other.completed = Some(true);
        assert_eq!(state(&other), State::Completed);
        assert_eq!(state(&Backtest::default()), State::Unknown);
    }

    #[test]
    fn statistics_keep_text_and_number() {
        let mut run = backtest(BacktestStatus::Completed);
        run.statistics = vec![qchost_sdk::types::Statistic {
            name: "Drawdown".into(),
            text: "12.3%".into(),
            value: Some(0.123),
        }];
        let json = serde_json::to_value(Summary::of(&run)).unwrap();
        let expected = serde_json::json!([{"name": "Drawdown", "text": "12.3%", "value": 0.123}]);
        assert_eq!(json["statistics"], expected);
        assert_eq!(json["state"], "completed");
    }

    #[test]
    fn a_failure_has_the_words_of_the_algorithm_and_the_explanation_or_its_absence() {
        let mut problem = Problem {
            message: "division by zero".into(),
            stacktrace: Some("at on_data, main.py:9".into()),
            explanation: Some("A denominator is 0.".into()),
            no_explanation: None,
        };
        assert_eq!(
            problem.failure("backtest b failed").to_string(),
            "backtest b failed:\ndivision by zero\nat on_data, main.py:9\n\nQuantConnect explains: A denominator is 0."
        );
        problem.explanation = None;
        problem.no_explanation = Some("halted".into());
        assert!(
            problem
                .failure("b")
                .to_string()
                .ends_with("\n\nwithout an explanation: halted")
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let cut = bounded(&"é".repeat(MAX_ERROR));
        assert!(cut.len() <= MAX_ERROR + '…'.len_utf8() && cut.ends_with("é…"));
        assert_eq!(bounded(" a \n"), "a");
    }
}
