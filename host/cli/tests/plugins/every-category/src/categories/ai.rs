//! `ai`: each function with input that it accepts, and with input that it refuses.

use qchost_sdk::ai::{AssistantState, ErrorReport, SearchCriterion, SourceType};
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, SourceFile};

use crate::checks::{Checks, unfit};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let python = Language::Python;
    let files = |content: &str| {
        [SourceFile {
            name: "main.py".into(),
            content: content.into(),
        }]
    };
    let ended = |state: &Option<AssistantState>| *state == Some(AssistantState::End);
    let failed = |state: &Option<AssistantState>| *state == Some(AssistantState::Error);

    let function = "check-initialization-errors";
    let good = ai::check_initialization_errors(&python, &files(setup::ALGORITHM));
    checks.answer(function, "finds none", good, |it| {
        ended(&it.state) && it.payload.is_some()
    })?;
    let broken = ai::check_initialization_errors(&python, &files("def broken(:\n"));
    checks.answer(function, "finds one", broken, |it| {
        failed(&it.state) && it.payload.is_some()
    })?;
    let refused = ai::check_initialization_errors(&Language::Other("Fortran".into()), &files("x"));
    checks.refusal(
        function,
        "refuses a language that there is not",
        refused,
        unfit,
    );

    let good = ai::check_syntax(&python, &files(setup::ALGORITHM));
    checks.answer("check-syntax", "finds no error", good, |it| {
        ended(&it.state) && it.payload.is_empty()
    })?;
    let broken = ai::check_syntax(&python, &files("def broken(:\n"));
    checks.answer("check-syntax", "finds an error", broken, |it| {
        failed(&it.state) && it.payload.iter().any(|it| it.contains("main.py"))
    })?;
    checks.refusal(
        "check-syntax",
        "refuses no files",
        ai::check_syntax(&python, &[]),
        unfit,
    );

    let completed = ai::complete_code(&python, "self.set_", Some(3));
    checks.answer(
        "complete-code",
        "gives at most as many as asked for",
        completed,
        |it| ended(&it.state) && (1..=3).contains(&it.payload.len()),
    )?;
    checks.refusal(
        "complete-code",
        "refuses no code",
        ai::complete_code(&python, "", None),
        unfit,
    );

    let error = ErrorReport {
        message: "ZeroDivisionError: division by zero".into(),
        stacktrace: None,
    };
    let enhanced = ai::enhance_error_message(&python, &error);
    checks.answer("enhance-error-message", "explains it", enhanced, |it| {
        ended(&it.state) && it.payload.as_deref().is_some_and(|it| !it.is_empty())
    })?;

    let old = "class A(QCAlgorithm):\n    def Initialize(self):\n        self.SetCash(1000)\n";
    checks.answer(
        "update-code-to-pep8",
        "renames",
        ai::update_code_to_pep8(&files(old)),
        |it| {
            it.payload
                .iter()
                .any(|(name, text)| name == "main.py" && text.contains("set_cash"))
        },
    )?;
    checks.refusal(
        "update-code-to-pep8",
        "refuses no files",
        ai::update_code_to_pep8(&[]),
        unfit,
    );

    let search = |kind, count| {
        let criterion = SearchCriterion {
            input: "simple moving average".into(),
            type_: kind,
            count,
        };
        ai::search_quantconnect(&python, &[criterion])
    };
    checks.answer(
        "search-quantconnect",
        "gives at most as many as asked for",
        search(SourceType::Docs, 2),
        |it| {
            ended(&it.state)
                && it.retrivals.len() <= 2
                && it.retrivals.iter().all(|it| it.content.is_some())
        },
    )?;
    let refused = search(SourceType::Other("Gossip".into()), 2);
    checks.refusal(
        "search-quantconnect",
        "refuses a place that there is not",
        refused,
        unfit,
    );
    Some(())
}
