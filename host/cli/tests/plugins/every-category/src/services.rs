//! The host's own services: state, configuration, clock, log, progress, workflow.

use std::time::Duration;

use qchost_sdk::StateError;
use qchost_sdk::backtests::BacktestStatus;
use qchost_sdk::prelude::*;
use qchost_sdk::workflow::{Batch, Item};
use serde_json::Value;

use crate::checks::{Checks, not_found, rejected};
use crate::setup;

/// `state`: written, swapped, in conflict, listed, deleted.
pub(crate) fn state(checks: &mut Checks) -> Option<()> {
    checks.answer(
        "delete",
        "of nothing succeeds",
        state::delete("every/one"),
        |()| true,
    )?;
    checks.answer(
        "get",
        "finds nothing",
        state::get("every/one"),
        Option::is_none,
    )?;
    let first = state::compare_and_swap("every/one", None, b"1");
    let version = checks.answer(
        "compare-and-swap",
        "writes what is not there",
        first,
        |it| *it >= 1,
    )?;
    checks.answer("get", "finds it", state::get("every/one"), |it| {
        it.as_ref()
            .is_some_and(|it| it.value == b"1" && it.version == version)
    })?;
    checks.answer(
        "set",
        "makes a new version",
        state::set("every/one", b"2"),
        |it| *it > version,
    )?;
    let late = state::compare_and_swap("every/one", Some(version), b"3");
    checks.refusal(
        "compare-and-swap",
        "sees that another writer was first",
        late,
        |it| matches!(it, StateError::Conflict(Some(now)) if *now > version),
    );
    let absent = state::compare_and_swap("every/two", Some(1), b"3");
    checks.refusal(
        "compare-and-swap",
        "sees that there is nothing",
        absent,
        |it| *it == StateError::Conflict(None),
    );
    let keys = |it: &Vec<String>| it == &["every/one"];
    checks.answer(
        "list-keys",
        "lists by prefix",
        state::list_keys("every/o"),
        keys,
    )?;
    checks.refusal("set", "refuses an empty key", state::set("", b""), |it| {
        matches!(it, StateError::InvalidKey(_))
    });
    checks.answer("delete", "succeeds", state::delete("every/one"), |()| true)?;

    let count = || state::update("every/count", |it: Option<u32>| Ok(it.unwrap_or(0) + 1));
    let before = checks.answer("compare-and-swap", "carries an update", count(), |it| {
        *it >= 1
    })?;
    checks.answer("compare-and-swap", "carries the next one", count(), |it| {
        *it == before + 1
    })?;
    let quota = state::set("every/large", &vec![0; 17 << 20]);
    checks.refusal("set", "refuses what is beyond the quota", quota, |it| {
        matches!(it, StateError::QuotaExceeded(_))
    });
    Some(())
}

/// `config`: the settings of the example manifest.
pub(crate) fn config(checks: &mut Checks) -> Option<()> {
    let text = config::read::<String>("text");
    checks.answer("get", "is a text", text, |it| {
        it.as_deref() == Some("a text")
    })?;
    checks.answer("get", "is a number", config::read::<u32>("number"), |it| {
        *it == Some(7)
    })?;
    let list = config::read::<Vec<String>>("list");
    checks.answer("get", "is a list", list, |it| {
        it.as_ref().is_some_and(|it| it == &["a", "b"])
    })?;
    checks.answer(
        "get",
        "is nothing",
        config::read::<Value>("none"),
        Option::is_none,
    )?;
    checks.refusal("get", "is no number", config::read::<u32>("text"), |it| {
        it.to_string().contains("`text` in `[config]`")
    });
    checks.answer(
        "all",
        "has every name",
        Ok::<_, Failure>(config::all()),
        |it| {
            let mut names: Vec<&str> = it.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            names == ["list", "number", "text"]
        },
    )?;
    Some(())
}

/// `clock`, `log` and `progress`.
pub(crate) fn signals(checks: &mut Checks) -> Option<()> {
    let year_2020 = 1_577_836_800.0;
    let now = clock::now();
    checks.answer("now", "is this century", Ok::<_, Failure>(now), |it| {
        *it > year_2020
    })?;
    let before = clock::remaining();
    checks.answer(
        "remaining",
        "is some time",
        Ok::<_, Failure>(before),
        |it| *it > 0.0,
    )?;
    std::thread::sleep(Duration::from_millis(20));
    checks.answer(
        "remaining",
        "grows less",
        Ok::<_, Failure>(clock::remaining()),
        |it| *it < before,
    )?;
    checks.answer("now", "goes on", Ok::<_, Failure>(clock::now()), |it| {
        *it > now
    })?;
    for level in [
        log::Level::Trace,
        log::Level::Debug,
        log::Level::Info,
        log::Level::Warn,
        log::Level::Error,
    ] {
        qchost_sdk::log!(level, number = 7, "a line of every-category");
    }
    println!("a line of every-category on standard output");
    eprintln!("a line of every-category on standard error");
    progress::steps(1, 2, "half of it");
    progress::steps(2, 2, "all of it");
    Some(())
}

/// `workflow`: each function, and a batch that fails in part.
pub(crate) fn workflow(checks: &mut Checks) -> Option<()> {
    let project = checks.answer(
        "compile-and-wait",
        "has a project",
        setup::project("workflow"),
        |_| true,
    )?;
    let outcome = workflow::compile_and_wait(project);
    let outcome = checks.answer("compile-and-wait", "ends in success", outcome, |it| {
        it.state == compile::State::BuildSuccess
    })?;
    checks.refusal(
        "compile-and-wait",
        "does not know a project",
        workflow::compile_and_wait(1),
        not_found,
    );

    let parameters = [("fast".to_owned(), "4".to_owned())];
    let compile = outcome.compile_id;
    let run = |compile: &str| workflow::backtest_and_wait(project, compile, "one", &parameters);
    checks.answer(
        "backtest-and-wait",
        "ends with statistics",
        run(&compile),
        |it| it.status == Some(BacktestStatus::Completed) && it.statistic("Sharpe Ratio").is_some(),
    )?;
    checks.refusal(
        "backtest-and-wait",
        "refuses a compile that there is not",
        run("none"),
        |it| not_found(it) || rejected(it),
    );

    let batch = Batch {
        project_id: project,
        compile_id: compile,
        items: vec![
            item("first", "fast", "3"),
            // The name of a backtest must not be empty.
            item("", "fast", "4"),
            item("failing", "divisor", "0"),
            item("last", "fast", "5"),
        ],
        concurrency: 2,
    };
    let results = workflow::run_backtests(&batch);
    let results = checks.answer(
        "run-backtests",
        "gives a result for each, in order",
        results,
        |it| {
            it.iter()
                .map(|it| (&it.name, &it.parameters))
                .eq(batch.items.iter().map(|it| (&it.name, &it.parameters)))
        },
    )?;
    let mut outcomes = results.into_iter().map(|it| it.outcome);
    let completed = |it: &backtests::Backtest| it.status == Some(BacktestStatus::Completed);
    checks.answer(
        "run-backtests",
        "completes the first",
        outcomes.next()?,
        completed,
    )?;
    checks.refusal(
        "run-backtests",
        "says why there is no second",
        outcomes.next()?,
        |it| !matches!(it, Error::Denied(_)),
    );
    checks.answer(
        "run-backtests",
        "gives the third with its error",
        outcomes.next()?,
        |it| {
            it.status == Some(BacktestStatus::RuntimeError)
                && it.error.as_deref().is_some_and(|it| !it.is_empty())
        },
    )?;
    checks.answer(
        "run-backtests",
        "completes the last",
        outcomes.next()?,
        completed,
    )?;
    Some(())
}

/// A backtest with one parameter.
pub(crate) fn item(name: &str, parameter: &str, value: &str) -> Item {
    Item {
        name: name.to_owned(),
        parameters: vec![(parameter.to_owned(), value.to_owned())],
    }
}
