//! `optimize`: an optimisation in QuantConnect's cloud: estimated, approved, created, followed and ranked.
//!
//! Invariant: an optimisation costs money, so one that may have been created is not created again. What was asked for and waits
//! for an approval is kept, so that the next invocation with the same input makes the same call.

use std::collections::BTreeMap;
use std::time::Duration;

use qchost_sdk::optimizations::Optimization;
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::build;
use crate::checks;
use crate::optimization::{self, Asked, Estimate, Node, Results, Search, State, Steps, Target};
use crate::project::{self, Project};

/// The first pause between two looks; each is one and a half times as long as the one before, up to [`MAX_INTERVAL`].
const MIN_INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_secs(15);
/// Time that is left to rank and to answer.
const RESERVED: Duration = Duration::from_secs(5);

/// What to optimise, or which optimisation to follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Optimize {
    /// The id of an optimisation to follow and rank. Nothing is created then, and nothing else is given.
    #[serde(default)]
    optimization: Option<String>,
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The algorithm: the text of `main.py` (`Main.cs` in a C# project).
    #[serde(default)]
    source: Option<String>,
    /// The values to try of each parameter: `min`, `max` and `step`.
    #[serde(default)]
    grid: BTreeMap<String, Steps>,
    /// The statistic to optimise.
    #[serde(default)]
    target: Target,
    /// The optimisation's name.
    #[serde(default = "name")]
    name: String,
    /// The type of the nodes.
    #[serde(default)]
    node: Node,
    /// How many nodes to use, each for one backtest at a time.
    #[serde(default = "nodes")]
    #[schemars(range(min = 1, max = 24))]
    nodes: u32,
    /// The largest estimate, in US dollars, with which it is created.
    #[serde(default)]
    max_cost: Option<f64>,
    /// Whether to have QuantConnect check the syntax and the `initialize` first; nothing is created if an error is found.
    #[serde(default)]
    check: bool,
    /// Whether to wait for a person's approval, as long as the invocation may last. Otherwise the action fails with the
    /// approval's id at once; either way, the same input goes on once it is approved.
    #[serde(default)]
    wait_for_approval: bool,
}

fn name() -> String {
    "strategy-lab".to_owned()
}

fn nodes() -> u32 {
    4
}

/// What came of it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Optimized {
    /// The project's id.
    project_id: u32,
    /// Identifies the optimisation: give it as `optimization` to follow and rank it again.
    optimization_id: String,
    /// Its name.
    name: Option<String>,
    /// How far it is.
    state: State,
    /// The statistic that is ranked by.
    target: String,
    /// What it should take; null for one that was only followed.
    estimate: Option<Estimate>,
    #[serde(flatten)]
    results: Results,
}

/// Runs the action.
pub(crate) fn run(input: Optimize) -> Result<Optimized, Failure> {
    let begun = begin(&input)?;
    let (id, estimate) = match begun {
        Begun::Follow(id) => (id, None),
        Begun::Create(search) => create(input, &search)?,
    };
    let optimization = follow(&id)?;
    let target = optimization
        .optimization_target
        .as_ref()
        .and_then(Target::of)
        .unwrap_or_default()
        .name();
    Ok(Optimized {
        project_id: optimization.project_id,
        optimization_id: id,
        state: optimization::state(&optimization),
        name: optimization.name,
        target: target.to_owned(),
        estimate,
        results: optimization::results(optimization.backtests, target),
    })
}

/// What to do first.
#[derive(Debug)]
enum Begun {
    Create(Search),
    Follow(String),
}

/// Decides that, and checks the input, before anything is touched.
fn begin(input: &Optimize) -> Result<Begun, Failure> {
    if let Some(id) = &input.optimization {
        let asks = input.project.is_some() || input.source.is_some() || !input.grid.is_empty();
        if asks || id.trim().is_empty() {
            return Err(Failure::invalid_input(
                "give the id of an `optimization` to follow, or what to create, not both",
            ));
        }
        return Ok(Begun::Follow(id.clone()));
    }
    let Optimize {
        name,
        target,
        grid,
        node,
        nodes,
        ..
    } = input;
    Search::new(name, *target, grid, *node, *nodes).map(Begun::Create)
}

/// Creates the optimisation: the one that waited for its approval, if this is the same one.
fn create(input: Optimize, search: &Search) -> Result<(String, Option<Estimate>), Failure> {
    let project = checks::prepare(input.project, input.source.as_deref(), input.check)?;
    let fingerprint = search.fingerprint(&project::own_files(project.id)?);
    let key = key(&project);
    let kept: Option<Asked> = state::read(&key)?;
    let asked = match kept.filter(|it| it.fingerprint == fingerprint) {
        Some(asked) => asked,
        None => ask(search, &project, fingerprint)?,
    };
    affordable(&asked.estimate, input.max_cost)?;
    state::write(&key, &asked)?;
    let request = search.request(project.id, &asked);
    progress::report(
        0.0,
        &format!(
            "an optimisation of {} backtests for about ${:.2}",
            asked.estimate.backtests, asked.estimate.cost
        ),
    );
    let call = || optimizations::create_optimization(&request);
    let created = if input.wait_for_approval && clock::time_left() > RESERVED {
        when_approved(call)
    } else {
        call()
    };
    match created {
        Ok(created) => {
            let id = created.optimization_id;
            info!(project = project.id, "created the optimisation {id}");
            // It was created, whatever becomes of the note.
            if let Err(error) = state::delete(&key) {
                warn!("the note of optimisation {id} could not be deleted: {error}");
            }
            Ok((id, Some(asked.estimate)))
        }
        Err(error) => {
            if let Error::ApprovalRequired(id) = &error {
                info!(
                    "approval {id} has to be given; then invoke the action with the same input again"
                );
            }
            if is_of_no_use(&error) {
                state::delete(&key)?;
            }
            Err(error.into())
        }
    }
}

/// Whether the same call would never be taken, as for a compile that QuantConnect has forgotten: the next invocation estimates and
/// asks again. In any other case it makes the same call, which the host can tell from another one: it may have been sent, or refused
/// by a person.
fn is_of_no_use(error: &Error) -> bool {
    matches!(
        error,
        Error::Rejected(_) | Error::NotFound(_) | Error::InvalidArgument(_)
    )
}

/// Makes a call as [`approvals::when_approved`] does. Where no decision is made in time, the approval is still what it needs.
fn when_approved<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut required = None;
    let made = approvals::when_approved(|| {
        let made = call();
        if let Err(Error::ApprovalRequired(id)) = &made {
            required = Some(id.clone());
        }
        made
    });
    match (made, required) {
        (Err(Error::TimedOut(_)), Some(id)) => Err(Error::ApprovalRequired(id)),
        (made, _) => made,
    }
}

/// Compiles and estimates.
fn ask(search: &Search, project: &Project, fingerprint: String) -> Result<Asked, Failure> {
    let compile_id = build::build(project)?.or_failure()?;
    let request = search.estimate_request(project.id, &compile_id);
    let estimate = wait::until_ready(|| optimizations::estimate_optimization_time(&request))?;
    Ok(Asked {
        fingerprint,
        compile_id,
        estimate: search.estimate(estimate.time, estimate.balance)?,
    })
}

/// Where an optimisation of a project that waits for its approval is kept.
fn key(project: &Project) -> String {
    format!("optimization/{}", project.id)
}

fn affordable(estimate: &Estimate, limit: Option<f64>) -> Result<(), Failure> {
    match limit {
        Some(limit) if estimate.cost > limit || limit.is_nan() => Err(Failure::failed(format!(
            "{} backtests would cost about ${:.2}, and `max_cost` is ${limit:.2}; nothing was created",
            estimate.backtests, estimate.cost
        ))),
        _ => Ok(()),
    }
}

/// Looks at an optimisation until it has ended, or the time of the invocation has.
fn follow(id: &str) -> Result<Optimization, Failure> {
    let mut pause = MIN_INTERVAL;
    loop {
        let optimization = wait::until_ready(|| optimizations::read_optimization(id))?;
        let (done, message) = optimization::progress(&optimization);
        progress::report(done, &message);
        let goes_on = optimization::state(&optimization) == State::Running;
        if !goes_on || clock::time_left() <= pause + RESERVED {
            return Ok(optimization);
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(MAX_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(json: &str) -> Result<Begun, String> {
        let input: Optimize = serde_json::from_str(json).map_err(|error| error.to_string())?;
        begin(&input).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_optimization_is_created_or_followed() {
        let create = r#"{"grid": {"fast": {"min": 10, "max": 30, "step": 10}}, "node": "O4-12"}"#;
        assert!(matches!(begun(create), Ok(Begun::Create(_))));
        assert!(
            matches!(begun(r#"{"optimization": "o-1"}"#), Ok(Begun::Follow(id)) if id == "o-1")
        );
        for (json, words) in [
            (r#"{"optimization": "o-1", "project": 7}"#, "not both"),
            (r#"{"optimization": " "}"#, "not both"),
            ("{}", "`grid` has no parameter"),
            (r#"{"grid": {"fast": [1, 2]}}"#, "struct Steps"),
            (r#"{"target": "Sharpe"}"#, "Sharpe Ratio"),
        ] {
            let error = begun(json).err().unwrap();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    #[test]
    fn what_may_have_been_sent_or_was_refused_is_not_asked_for_again() {
        for error in [
            Error::ApprovalRequired("ap-1".into()),
            Error::ApprovalRefused("no".into()),
            Error::UnknownOutcome("lost".into()),
            Error::Halted("by hand".into()),
        ] {
            assert!(!is_of_no_use(&error), "{error}");
        }
        assert!(is_of_no_use(&Error::Rejected(vec!["no compile".into()])));
        assert!(is_of_no_use(&Error::NotFound("compile".into())));
    }

    #[test]
    fn what_costs_too_much_is_not_created() {
        let estimate = Estimate {
            backtests: 100,
            seconds_per_backtest: 60.0,
            cost: 0.25,
            balance: None,
        };
        assert_eq!(affordable(&estimate, None), Ok(()));
        assert_eq!(affordable(&estimate, Some(0.25)), Ok(()));
        for limit in [0.24, f64::NAN] {
            let failure = affordable(&estimate, Some(limit)).unwrap_err().to_string();
            assert!(failure.contains("$0.25"), "{failure}");
        }
    }
}
