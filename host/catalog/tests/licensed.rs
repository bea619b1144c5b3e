//! Which answers may hold licensed data.

use qchost_catalog::{Licensed, OPERATIONS, Operation, Selector, by_name};

/// Whether an operation's answer may hold licensed data, by what its name and its arguments say of it.
fn suspect(operation: &Operation) -> bool {
    let (_, function) = operation.name.split_once('/').unwrap_or_default();
    let mut words = function.split('-');
    let object = operation.selects(|selector| {
        matches!(
            selector,
            Selector::DownloadKey(_) | Selector::DownloadJob(_)
        )
    });
    let deletes = function.starts_with("jupyter-delete");
    object || words.any(|word| matches!(word, "logs" | "chart" | "jupyter")) && !deletes
}

#[test]
fn logs_charts_notebooks_and_objects_are_labelled() {
    let mut labelled = 0;
    for operation in OPERATIONS {
        if suspect(operation) {
            let chart = operation.selects(|selector| matches!(selector, Selector::Chart(_)));
            let expected = match chart {
                true => Licensed::Charts,
                false => Licensed::Always,
            };
            assert_eq!(operation.licensed, expected, "{}", operation.name);
            labelled += 1;
        }
    }
    assert!(labelled >= 13, "{labelled}");
}

#[test]
fn what_quantconnect_lets_out_is_not_labelled() {
    for name in [
        "backtests/read-backtest",
        "backtests/list-backtests",
        "backtests/read-backtest-orders",
        "backtests/read-backtest-insights",
        "live/read-live-orders",
        "live/read-live-portfolio",
        "live/read-live-insights",
        "optimizations/read-optimization",
        "projects/list-projects",
        "compile/read-compile",
        "object-store/list-object-store-files",
    ] {
        let licensed = by_name(name).map(|operation| operation.licensed);
        assert_eq!(licensed, Some(Licensed::No), "{name}");
    }
}

#[test]
fn answers_with_files_may_hold_notebooks() {
    for operation in OPERATIONS {
        // By the tool's name, the whole body is answered, with the files of a deployment.
        if operation.answer == "files" || operation.endpoint == "/live/read" {
            assert_eq!(
                operation.licensed,
                Licensed::Notebooks,
                "{}",
                operation.name
            );
        }
    }
}

/// What has no function, and so no documented answer, but is not labelled, and why.
const UNLABELLED: &[(&str, &str)] = &[
    ("agents/create-agent", "the settings of an agent"),
    ("agents/read-agent", "the settings of an agent"),
    ("agents/update-agent", "the settings of an agent"),
    ("agents/delete-agent", "no more than that it was done"),
    ("agents/list-agents", "the settings of agents"),
    (
        "agent-tasks/create-agent-task",
        "what an agent was asked to do",
    ),
    (
        "agent-tasks/read-agent-task",
        "what an agent was asked to do",
    ),
    (
        "agent-tasks/update-agent-task",
        "what an agent was asked to do",
    ),
    (
        "agent-tasks/delete-agent-task",
        "no more than that it was done",
    ),
    (
        "agent-tasks/list-agent-tasks",
        "what agents were asked to do",
    ),
    ("data-issues/create-data-issue", "what is on a public page"),
    ("data-issues/list-data-issues", "what is on a public page"),
    ("support/create-support-ticket", "what persons wrote"),
    ("support/read-support-ticket", "what persons wrote"),
    ("support/list-support-tickets", "what persons wrote"),
];

#[test]
fn an_answer_that_is_passed_on_as_it_comes_is_labelled_or_there_is_a_reason() {
    let untyped = OPERATIONS.iter().filter(|operation| !operation.is_typed());
    let unlabelled: Vec<_> = untyped
        .filter(|operation| operation.licensed != Licensed::Always)
        .map(|operation| operation.name)
        .collect();
    let listed: Vec<_> = UNLABELLED.iter().map(|(name, _)| *name).collect();
    assert_eq!(unlabelled, listed);
    // What an agent did, it may have read in logs, charts and notebooks.
    for operation in OPERATIONS
        .iter()
        .filter(|it| it.interface() == "agent-deployments")
    {
        assert_eq!(operation.licensed, Licensed::Always, "{}", operation.name);
    }
}
