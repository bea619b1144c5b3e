//! every-category: a test agent. Its actions call every function of the contract against a
//! running host and check the results, and try what the sandbox forbids.
//!
//! The end-to-end tests read the reports: an action fails only if it cannot start.

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod categories;
mod checks;
mod sandbox;
mod services;
mod setup;

use checks::{Checks, Report};
use sandbox::Attempt;

/// The profile to deploy by.
#[derive(Deserialize, JsonSchema)]
struct Profile {
    /// Its name in the host's configuration.
    profile: String,
}

/// What to deploy.
#[derive(Deserialize, JsonSchema)]
struct Launches {
    /// The profile to deploy by.
    profile: String,
    /// How often the project is deployed; once if absent.
    times: Option<u32>,
}

/// A text that an action is about.
#[derive(Deserialize, JsonSchema)]
struct Target {
    /// A path, a name, an address.
    target: String,
}

/// How much.
#[derive(Deserialize, JsonSchema)]
struct Amount {
    /// In bytes.
    bytes: usize,
}

/// A project that can be run.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Prepared {
    /// The project.
    project_id: u32,
    /// A compile of it that succeeded.
    compile_id: String,
}

/// A batch of backtests.
#[derive(Deserialize, JsonSchema)]
struct Batch {
    /// The project and its compile.
    #[serde(flatten)]
    prepared: Prepared,
    /// How many.
    count: u32,
    /// How many at a time.
    concurrency: u32,
}

/// What became of a batch.
#[derive(Serialize, JsonSchema)]
struct Outcome {
    /// Backtests that completed.
    completed: usize,
    /// Why the others did not.
    errors: Vec<String>,
}

/// Any JSON.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Anything {
    /// The JSON.
    value: Value,
}

/// Calls every function of the contract, for the tests of the host.
#[agent(name = "every-category")]
mod agent {
    use super::*;

    /// Check the functions of `account`.
    #[action(read_only)]
    fn account() -> Result<Report, Failure> {
        Ok(Checks::of("account", categories::account::account))
    }

    /// Check the functions of `ai`.
    #[action(read_only)]
    fn ai() -> Result<Report, Failure> {
        Ok(Checks::of("ai", categories::ai::run))
    }

    /// Check the functions of `backtests`.
    #[action(destructive)]
    fn backtests() -> Result<Report, Failure> {
        Ok(Checks::of("backtests", categories::backtests::run))
    }

    /// Check the functions of `collaboration`.
    #[action(destructive)]
    fn collaboration() -> Result<Report, Failure> {
        Ok(Checks::of("collaboration", categories::collaboration::run))
    }

    /// Check the functions of `compile`.
    #[action]
    fn compile() -> Result<Report, Failure> {
        Ok(Checks::of("compile", categories::compile::run))
    }

    /// Check the functions of `exports`.
    #[action(destructive)]
    fn exports(input: Profile) -> Result<Report, Failure> {
        Ok(Checks::of("exports", |it| {
            categories::exports::run(it, &input.profile)
        }))
    }

    /// Check the functions of `files`.
    #[action(destructive)]
    fn files() -> Result<Report, Failure> {
        Ok(Checks::of("files", categories::files::run))
    }

    /// Check the functions of `lean-versions`.
    #[action(read_only)]
    fn lean_versions() -> Result<Report, Failure> {
        Ok(Checks::of(
            "lean-versions",
            categories::account::lean_versions,
        ))
    }

    /// Check the functions of `libraries`.
    #[action]
    fn libraries() -> Result<Report, Failure> {
        Ok(Checks::of("libraries", categories::projects::libraries))
    }

    /// Check the functions of `live`.
    #[action(destructive)]
    fn live(input: Profile) -> Result<Report, Failure> {
        Ok(Checks::of("live", |it| {
            categories::live::run(it, &input.profile)
        }))
    }

    /// Check the functions of `live-commands`.
    #[action(destructive)]
    fn live_commands(input: Profile) -> Result<Report, Failure> {
        Ok(Checks::of("live-commands", |it| {
            categories::live_commands::run(it, &input.profile)
        }))
    }

    /// Check the functions of `nodes`.
    #[action]
    fn nodes() -> Result<Report, Failure> {
        Ok(Checks::of("nodes", categories::nodes::run))
    }

    /// Check the functions of `object-store`.
    #[action(destructive)]
    fn object_store() -> Result<Report, Failure> {
        Ok(Checks::of("object-store", categories::object_store::run))
    }

    /// Check the functions of `optimizations`.
    #[action(destructive)]
    fn optimizations() -> Result<Report, Failure> {
        Ok(Checks::of("optimizations", categories::optimizations::run))
    }

    /// Check the functions of `organizations`.
    #[action(read_only)]
    fn organizations() -> Result<Report, Failure> {
        Ok(Checks::of(
            "organizations",
            categories::account::organizations,
        ))
    }

    /// Check the functions of `projects`.
    #[action(destructive)]
    fn projects() -> Result<Report, Failure> {
        Ok(Checks::of("projects", categories::projects::run))
    }

    /// Check `raw`.
    #[action(read_only)]
    fn raw() -> Result<Report, Failure> {
        Ok(Checks::of("raw", categories::raw::run))
    }

    /// Check the functions of `server`.
    #[action(read_only)]
    fn server() -> Result<Report, Failure> {
        Ok(Checks::of("server", categories::account::server))
    }

    /// Check that each figure is one number, however it is asked for.
    #[action(destructive)]
    fn units(input: Profile) -> Result<Report, Failure> {
        Ok(Checks::of("units", |it| {
            categories::units::run(it, &input.profile)
        }))
    }

    /// Check the functions of `state`.
    #[action]
    fn state() -> Result<Report, Failure> {
        Ok(Checks::of("state", services::state))
    }

    /// Check the functions of `config`, with the settings of the example manifest.
    #[action(read_only)]
    fn config() -> Result<Report, Failure> {
        Ok(Checks::of("config", services::config))
    }

    /// Check the functions of `clock`, and use `log` and `progress`.
    #[action(read_only)]
    fn signals() -> Result<Report, Failure> {
        Ok(Checks::of("clock", services::signals))
    }

    /// Check the functions of `workflow`.
    #[action]
    fn workflow() -> Result<Report, Failure> {
        Ok(Checks::of("workflow", services::workflow))
    }

    /// Make a project and compile it.
    #[action]
    fn prepare() -> Result<Prepared, Failure> {
        let (project_id, compile_id) = setup::built("prepared")?;
        Ok(Prepared {
            project_id,
            compile_id,
        })
    }

    /// Run a batch of backtests of a prepared project.
    #[action]
    fn batch(input: Batch) -> Result<Outcome, Failure> {
        let Prepared {
            project_id,
            compile_id,
        } = input.prepared;
        let item =
            |number: u32| services::item(&format!("{number}"), "fast", &(number + 2).to_string());
        let results = workflow::run_backtests(&workflow::Batch {
            project_id,
            compile_id,
            items: (1..=input.count).map(item).collect(),
            concurrency: input.concurrency,
        })?;
        let total = results.len();
        let errors: Vec<String> = results
            .into_iter()
            .filter_map(|it| match it.outcome {
                Ok(backtest) => backtest.error,
                Err(error) => Some(error.to_string()),
            })
            .collect();
        Ok(Outcome {
            completed: total - errors.len(),
            errors,
        })
    }

    /// Begin a backtest of a prepared project, whatever the answer takes.
    #[action]
    fn slow_write(input: Prepared) -> Result<Anything, Failure> {
        let Prepared {
            project_id,
            compile_id,
        } = input;
        let backtest = backtests::create_backtest(project_id, &compile_id, "slow write", None)?;
        Ok(Anything {
            value: backtest.backtest_id.into(),
        })
    }

    /// Deploy a new project by a profile; return the id of its last deployment.
    #[action(destructive)]
    fn deploy_live(input: Launches) -> Result<Anything, Failure> {
        let (project, compile) = setup::built("deployed")?;
        let mut last = None;
        for _ in 0..input.times.unwrap_or(1) {
            let deployment = setup::deployment(project, &compile, &input.profile)?;
            last = live::create_live_algorithm(&deployment)?.deploy_id;
        }
        Ok(Anything { value: last.into() })
    }

    /// Return the input.
    #[action(read_only, idempotent)]
    fn echo(input: Anything) -> Result<Anything, Failure> {
        Ok(input)
    }

    /// Return this many bytes.
    #[action(read_only)]
    fn output(input: Amount) -> Result<Anything, Failure> {
        Ok(Anything {
            value: "x".repeat(input.bytes).into(),
        })
    }

    /// Read the file `target`.
    #[action(read_only)]
    fn read_file(input: Target) -> Result<Attempt, Failure> {
        Ok(sandbox::read_file(&input.target))
    }

    /// Write the file `target`.
    #[action]
    fn write_file(input: Target) -> Result<Attempt, Failure> {
        Ok(sandbox::write_file(&input.target))
    }

    /// Read the variable `target` of the environment, or any.
    #[action(read_only)]
    fn read_env(input: Target) -> Result<Attempt, Failure> {
        Ok(sandbox::read_env(&input.target))
    }

    /// Connect to `target`, which is `host:port`.
    #[action(read_only)]
    fn open_socket(input: Target) -> Result<Attempt, Failure> {
        Ok(sandbox::open_socket(&input.target))
    }

    /// Look the name `target` up.
    #[action(read_only)]
    fn look_up_name(input: Target) -> Result<Attempt, Failure> {
        Ok(sandbox::look_up_name(&input.target))
    }

    /// Loop forever.
    #[action(read_only)]
    fn loop_for_ever() -> Result<Anything, Failure> {
        Ok(Anything {
            value: sandbox::loop_for_ever().into(),
        })
    }

    /// Allocate without end.
    #[action(read_only)]
    fn allocate() -> Result<Anything, Failure> {
        Ok(Anything {
            value: sandbox::allocate().into(),
        })
    }

    /// Recurse without end.
    #[action(read_only)]
    fn recurse() -> Result<Anything, Failure> {
        Ok(Anything {
            value: sandbox::recurse(0).into(),
        })
    }

    /// Panic.
    #[action(read_only)]
    #[allow(clippy::panic)]
    fn fall_over() -> Result<Anything, Failure> {
        panic!("every-category was asked to fall over")
    }

    /// Remember that a backtest finished: under `event`, its subject.
    #[on("backtest-finished")]
    fn finished(event: Event) -> Result<(), Failure> {
        state::write("event", &event.subject)
    }
}
