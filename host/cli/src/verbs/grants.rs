//! `qchost plugin grants`: what a plugin may do, under which conditions, and how much of it is
//! used.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::control::{self, Request, Route};
use crate::host::Host;
use crate::output::Output;
use crate::terminal;
use crate::verbs::cell;

/// Shows the grants.
pub async fn run(route: &Route, plugin: &str, output: Output) -> Result<()> {
    let request = Request::Grants {
        plugin: plugin.to_owned(),
    };
    let report = control::perform(route, request, output).await?;
    output.result(&report, text)
}

/// The grants as this host enforces them.
pub async fn by_host(host: &Host, plugin: &str) -> Result<Value> {
    host.check_plugin(plugin)?;
    let report = host.gate.grants(plugin).await?;
    ensure!(
        report.is_some() || !host.awaits(plugin),
        "the plugin `{plugin}` is still being loaded; ask again when it is: qchost plugin list"
    );
    let report = report
        .with_context(|| format!("there is no plugin `{plugin}`; see: qchost plugin list"))?;
    Ok(serde_json::to_value(report)?)
}

/// A block for each grant: its operations, its resources, and its obligations.
fn text(report: &Value) -> String {
    let mut text = format!(
        "{} on account {}\n",
        cell(report, "plugin"),
        cell(report, "account")
    );
    let halted = cell(report, "halted");
    if halted != "-" {
        text += &format!("halted: {halted}\n");
    }
    if report.get("restricted") == Some(&Value::Bool(true)) {
        text += "restricted: its manifest was changed and does not serve yet; a call needs the leave of that one too, and the smaller limits count\n";
    }
    for grant in report
        .get("grants")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let mut rows = vec![("allow".to_owned(), cell(grant, "allow"))];
        for part in ["scope", "obligations"] {
            let fields = grant.get(part).and_then(Value::as_object);
            for (name, value) in fields.into_iter().flatten() {
                rows.push((terminal::line(name), amount(value)));
            }
        }
        let denied = grant.get("denied").and_then(Value::as_array);
        if denied.is_some_and(|denied| !denied.is_empty()) {
            rows.push(("denied or limited more".to_owned(), cell(grant, "denied")));
        }
        text += &format!("\n{}\n", cell(grant, "name"));
        let width = rows.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or_default();
        for (name, value) in rows {
            text += &format!("  {name:<width$}  {value}\n");
        }
    }
    text.trim_end().to_owned()
}

/// The value of a condition; for a budget, how much of it is used.
fn amount(value: &Value) -> String {
    match (value.get("limit"), value.get("used")) {
        (Some(_), Some(_)) => format!("{} of {} used", cell(value, "used"), cell(value, "limit")),
        (Some(_), None) => cell(value, "limit"),
        (None, _) => cell(&json!({ "it": value }), "it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grant_is_a_block_with_what_is_used() {
        let report = json!({ "plugin": "lab", "account": "research", "halted": null, "grants": [{
            "name": "backtests", "allow": ["backtests/*"], "scope": { "projects": ["Lab/*"], "max-cost": "$5.00" },
            "obligations": { "per-day": { "limit": 500, "used": 12 }, "concurrent": { "limit": 4 }, "approval": "operator" } }] });
        let expected = "lab on account research\n\nbacktests\n  allow       backtests/*\n  projects    Lab/*\n  \
                        max-cost    $5.00\n  per-day     12 of 500 used\n  concurrent  4\n  approval    operator";
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn what_narrows_the_grants_is_said_before_them() {
        let report = json!({ "plugin": "lab", "account": "research", "halted": "a drill", "restricted": true, "grants": [] });
        let expected = "lab on account research\nhalted: a drill\nrestricted: its manifest was changed and does not serve yet; a call needs the leave of that one too, and the smaller limits count";
        assert_eq!(text(&report), expected);
    }
}
