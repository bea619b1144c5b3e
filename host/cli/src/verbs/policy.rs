//! `qchost policy`: what the gate would decide, without sending anything.

use std::path::Path;

use anyhow::{Error, Result, bail, ensure};
use qchost_policy::{Coverage, ManifestError, PolicyTestError, run_policy_tests};
use serde::Serialize;
use serde_json::Value;

use crate::args::Policy;
use crate::config::Config;
use crate::control::{self, Request, Route};
use crate::host::Host;
use crate::output::{Output, table};
use crate::terminal;
use crate::verbs::{cell, json_argument};

/// Carries out the verb.
pub async fn run(route: &Route, verb: Policy, output: Output) -> Result<()> {
    match verb {
        Policy::Explain {
            plugin,
            operation,
            arguments,
            project,
        } => {
            let request = Request::Explain {
                plugin,
                operation,
                arguments: json_argument(&arguments)?,
                project,
            };
            let explanation = control::perform(route, request, output).await?;
            output.result(&explanation, text)
        }
        Policy::Coverage => {
            let coverages = route.config()?.guardrails()?.coverage()?;
            output.result(&coverages, |all| coverage(all))
        }
        Policy::Test { file } => test(route.config()?, &file, output),
    }
}

/// Explains by this host's gate.
pub async fn by_host(
    host: &Host,
    plugin: &str,
    operation: &str,
    arguments: Value,
    project: Option<String>,
) -> Result<Value> {
    host.check_plugin(plugin)?;
    let Value::Object(arguments) = arguments else {
        bail!("the arguments of an operation are a JSON object");
    };
    if qchost_catalog::by_name(operation).is_none() && qchost_catalog::by_tool(operation).is_none()
    {
        let known = qchost_catalog::OPERATIONS.iter().map(|known| known.name);
        if let Some(near) = qchost_policy::nearest(operation, known) {
            bail!("there is no operation `{operation}`; did you mean `{near}`?");
        }
    }
    let explanation = host
        .gate
        .explain(plugin, operation, arguments, project)
        .await?;
    Ok(serde_json::to_value(explanation)?)
}

/// An explanation for people.
fn text(said: &Value) -> String {
    let mut text = format!("{}\n", cell(said, "decision"));
    for (key, title) in [
        ("grants", "by the grants"),
        ("guardrails", "by the guardrails"),
    ] {
        let names = cell(said, key);
        if names != "-" {
            text += &format!("{title} {names}\n");
        }
    }
    for obligation in said
        .get("obligations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let limits = obligation.get("limits").and_then(Value::as_object);
        let limits: Vec<_> = limits
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if !limits.is_empty() {
            text += &format!(
                "within {} of `{}`\n",
                limits.join(", "),
                cell(obligation, "grant")
            );
        }
    }
    if said.get("approval") == Some(&Value::Bool(true)) {
        text += "after a person approved it\n";
    }
    for what in said
        .get("assumed")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        text += &format!("if {}\n", terminal::line(what.as_str().unwrap_or_default()));
    }
    if let Some(reason) = said.get("reason").and_then(Value::as_str) {
        text += &terminal::block(reason);
    }
    text.trim_end().to_owned()
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
#[derive(Debug, Serialize)]
struct Verdict {
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
    let verdicts: Vec<_> = results
        .into_iter()
        .map(|result| Verdict {
            passed: result.passed(),
            case: result.name,
            problems: result.problems,
        })
        .collect();
    let failed = verdicts.iter().filter(|verdict| !verdict.passed).count();
    output.result(&verdicts, |verdicts| {
        let rows: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                let word = if verdict.passed { "ok" } else { "FAILED" };
                vec![
                    word.to_owned(),
                    terminal::line(&verdict.case),
                    terminal::line(&verdict.problems.join("; ")),
                ]
            })
            .collect();
        table(&["", "case", ""], &rows)
    })?;
    ensure!(failed == 0, "{failed} of {} cases failed", verdicts.len());
    ensure!(
        !verdicts.is_empty(),
        "{}: there is no [[case]] in it",
        file.display()
    );
    Ok(())
}
