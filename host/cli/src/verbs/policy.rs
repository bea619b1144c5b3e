//! `qchost policy`: what the gate would decide, without sending anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Error, Result, ensure};
use qchost_catalog::FailureKind;
use qchost_gate::{Amount, Explanation};
use qchost_policy::{Coverage, ManifestError, PolicyTestError, run_policy_tests};
use schemars::JsonSchema;
use serde::Serialize;

use super::arguments::object_argument;
use super::cells::{list, text};
use super::grants;
use crate::args::Policy;
use crate::config::Config;
use crate::control::{self, Route};
use crate::exit_status::{ErrorKind, Failed};
use crate::output::{Output, counted, folded, table};
use crate::requests::{Explain, Grants};
use crate::terminal;

/// Carries out the verb.
pub async fn run(route: &Route, verb: Policy, output: Output) -> Result<()> {
    match verb {
        Policy::Explain {
            plugin,
            operation,
            arguments,
            project,
        } => {
            let request = Explain {
                plugin: plugin.clone(),
                operation: operation.clone(),
                arguments: object_argument(&arguments)?,
                project,
            };
            let explained = control::perform(route, request, output).await?;
            let mut covering = String::new();
            if !output.json && is_undecided(&explained) {
                let report = control::perform(route, Grants { plugin }, output).await?;
                covering = grants::covering(&report, &operation);
            }
            output.result(&explained, |explained| explanation(explained) + &covering)?;
            decided(&explained, &operation)
        }
        Policy::Coverage => {
            let coverages = route.config()?.guardrails()?.coverage()?;
            output.result(&coverages, |all| coverage(all))
        }
        Policy::Test { file } => test(route.config()?, &file, output),
    }
}

/// Whether nothing was decided: the call is invalid, or what it touches is not known.
fn is_undecided(explained: &Explanation) -> bool {
    let kind = ErrorKind::parse(&explained.decision);
    matches!(kind, Some(ErrorKind::Failure(_)))
}

/// Fails if nothing was decided.
fn decided(explained: &Explanation, operation: &str) -> Result<()> {
    let kind = ErrorKind::parse(&explained.decision);
    let Some(kind) = kind.filter(|_| is_undecided(explained)) else {
        return Ok(());
    };
    let reason = explained.reason.as_deref().unwrap_or_default();
    let message = format!("no decision: {reason}");
    if kind != ErrorKind::Failure(FailureKind::InvalidArgument) {
        return Err(Failed::error(kind, message));
    }
    let hint = format!("qchost tools {operation}");
    let message = format!("{message}; `{hint}` shows the arguments");
    Err(Failed::hinted(kind, message, hint))
}

/// An explanation for people.
fn explanation(explained: &Explanation) -> String {
    let mut shown = format!("{}\n", text(&explained.decision));
    for (names, title) in [
        (&explained.grants, "by the grants"),
        (&explained.guardrails, "by the guardrails"),
    ] {
        if !names.is_empty() {
            shown += &folded(&format!("{title} {}", list(names)));
            shown.push('\n');
        }
    }
    for obligation in &explained.obligations {
        let limits = limits(&obligation.limits);
        if !limits.is_empty() {
            let limits = limits.join(", ");
            shown += &folded(&format!("within {limits} of `{}`", text(&obligation.grant)));
            shown.push('\n');
        }
    }
    if explained.approval {
        shown += "after a person approved it\n";
    }
    for what in &explained.assumed {
        shown += &format!("if {}\n", terminal::line(what));
    }
    // Where nothing is decided, the error says why.
    if let Some(reason) = &explained.reason
        && !is_undecided(explained)
    {
        let word = format!("{}: ", explained.decision);
        shown += &terminal::block(reason.strip_prefix(&word).unwrap_or(reason));
    }
    shown.trim_end().to_owned()
}

fn limits(limits: &BTreeMap<Cow<'static, str>, Amount>) -> Vec<String> {
    let limit = |(name, most): (&Cow<'static, str>, &Amount)| {
        format!("{} {}", grants::label(name), grants::amount(most))
    };
    limits.iter().map(limit).collect()
}

/// What the guardrails can affect, for people.
fn coverage(all: &[Coverage]) -> String {
    if all.is_empty() {
        return "there are no guardrails".to_owned();
    }
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            vec![
                terminal::line(&one.guardrail),
                terminal::line(&one.at),
                one.operations.len().to_string(),
                one.operations.join(" "),
            ]
        })
        .collect();
    table(&["guardrail", "at", "count", "can forbid"], &rows)
}

/// The result of a case.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CaseRow {
    case: String,
    passed: bool,
    problems: Vec<String>,
}

/// Checks the expectations against the manifests that the file names and the guardrails of the
/// configuration as they are in their files, independent of a running host, so that a change can be
/// tested before it is made.
fn test(config: &Config, file: &Path, output: Output) -> Result<()> {
    let guardrails = config.guardrails()?;
    for warning in guardrails.warnings() {
        output.warning(&warning);
    }
    let results = run_policy_tests(file, &guardrails).map_err(|error| match error {
        PolicyTestError::File(ManifestError::Read { path, source }) if path == file => {
            Error::new(source).context(format!(
                "cannot read the tests of policies in {}",
                file.display()
            ))
        }
        error => error.into(),
    })?;
    let cases: Vec<_> = results
        .into_iter()
        .map(|result| CaseRow {
            passed: result.passed(),
            case: result.name,
            problems: result.problems,
        })
        .collect();
    let failed = cases.iter().filter(|case| !case.passed).count();
    output.result(&cases, |cases| {
        let rows: Vec<_> = cases
            .iter()
            .map(|case| {
                let word = if case.passed { "ok" } else { "FAILED" };
                vec![
                    word.to_owned(),
                    terminal::line(&case.case),
                    terminal::line(&case.problems.join("; ")),
                ]
            })
            .collect();
        table(&["", "case", ""], &rows)
    })?;
    ensure!(
        failed == 0,
        "{failed} of {} failed",
        counted(cases.len(), "case")
    );
    ensure!(
        !cases.is_empty(),
        "{}: there is no [[case]] in it",
        file.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_limits_of_an_allowed_call_are_shown_with_their_units() {
        let explained = json!({
            "decision": "allowed", "reason": null, "grants": ["optimise"], "guardrails": [],
            "obligations": [{ "grant": "optimise", "limits": { "cost-per-day-usd": 6.5, "per-day": 5 } }],
            "approval": false, "assumed": [],
        });
        let explained = serde_json::from_value(explained).unwrap();
        let shown = explanation(&explained);
        assert!(
            shown.contains("within cost-per-day $6.50, per-day 5 of `optimise`"),
            "{shown}"
        );
    }
}
