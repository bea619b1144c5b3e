use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// What to look at.
#[derive(Deserialize, JsonSchema)]
struct Question {
    /// The project's id.
    project: u32,
}

/// The best backtest.
#[derive(Serialize, JsonSchema)]
struct Answer {
    /// Its name.
    name: Option<String>,
    /// Its Sharpe ratio.
    sharpe_ratio: f64,
}

/// Finds good backtests.
#[agent(name = "best-of")]
mod agent {
    use super::*;

    /// Find the backtest with the highest Sharpe ratio.
    #[action(read_only)]
    fn best(question: Question) -> Result<Answer, Failure> {
        let list = backtests::list_backtests(question.project, Some(true))?;
        let finished = list.backtests.into_iter();
        let rated = finished.filter_map(|it| Some((it.sharpe_ratio?, it.name)));
        let best = rated.max_by(|a, b| a.0.total_cmp(&b.0));
        let (sharpe_ratio, name) = best.ok_or("the project has no finished backtest")?;
        Ok(Answer { name, sharpe_ratio })
    }
}
