//! `qchost plugin grants`: what a plugin may do, under which conditions, and how much of it is
//! used.

use anyhow::Result;
use qchost_gate::{Amount, Condition, GrantReport, GrantsReport, Obligation};
use qchost_policy::Pattern;

use super::cells::{list, text};
use crate::control::{self, Route};
use crate::output::{Output, fields, folded};
use crate::requests::Grants;
use crate::terminal;

/// Shows the grants.
pub async fn run(route: &Route, request: Grants, output: Output) -> Result<()> {
    let report = control::perform(route, request, output).await?;
    output.result(&report, shown)
}

/// A block for each grant: its operations, its resources, and its obligations.
fn shown(report: &GrantsReport) -> String {
    let mut lines = vec![format!(
        "{} on account {}",
        text(&report.plugin),
        text(&report.account)
    )];
    if let Some(halted) = &report.halted {
        lines.push(format!("halted: {}", text(halted)));
    }
    if report.restricted {
        lines.push("restricted: its manifest was changed and does not serve yet; the changed manifest must allow a call too, and the smaller limits apply".to_owned());
    }
    for (alias, action) in &report.aliases {
        lines.push(format!("alias {} of {}", text(alias), text(action)));
    }
    let lines = lines.iter().map(|line| folded(line) + "\n");
    let mut shown: String = lines.collect();
    for grant in &report.grants {
        shown += &block(grant);
    }
    shown.trim_end().to_owned()
}

/// The grants that cover an operation, each with its conditions; empty if none does.
pub fn covering(report: &GrantsReport, operation: &str) -> String {
    let known = qchost_catalog::by_name(operation).or_else(|| qchost_catalog::by_tool(operation));
    let Some(known) = known else {
        return String::new();
    };
    let covers = |entry: &String| {
        let pattern = Pattern::parse(entry);
        pattern.is_ok_and(|pattern| pattern.covers(known.name, known.access))
    };
    let grants = report.grants.iter();
    let grants = grants.filter(|grant| grant.allow.iter().any(covers));
    let blocks: String = grants.map(block).collect();
    match blocks.trim_end() {
        "" => String::new(),
        blocks => format!("\n\ngrants that cover it, with their conditions:\n{blocks}"),
    }
}

fn block(grant: &GrantReport) -> String {
    let mut rows = vec![("allow".to_owned(), list(&grant.allow))];
    rows.extend(grant.scope.iter().map(|(name, condition)| {
        let condition = match condition {
            Condition::Amount(limit) => amount(limit),
            Condition::Names(names) => list(names),
        };
        (label(name), condition)
    }));
    rows.extend(grant.obligations.iter().map(|(name, obligation)| {
        let obligation = match obligation {
            Obligation::Limit {
                limit,
                used: Some(used),
            } => format!("{} of {} used", amount(used), amount(limit)),
            Obligation::Limit { limit, used: None } => amount(limit),
            Obligation::Approval(by) => text(by),
        };
        (label(name), obligation)
    }));
    if !grant.denied.is_empty() {
        rows.push(("denied or limited more".to_owned(), list(&grant.denied)));
    }
    format!("\n{}\n{}\n", text(&grant.name), fields(2, &rows))
}

/// The name of a limit as a manifest has it. The unit stands beside the amount.
pub fn label(name: &str) -> String {
    terminal::line(name.strip_suffix("-usd").unwrap_or(name))
}

pub fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Number(number) => number.to_string(),
        Amount::Money(money) => money.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(report: &Value) -> String {
        shown(&serde_json::from_value(report.clone()).unwrap())
    }

    #[test]
    fn each_grant_is_a_block_with_what_is_used() {
        let report = json!({ "plugin": "lab", "account": "research", "halted": null, "restricted": false, "grants": [{
            "name": "backtests", "allow": ["backtests/*"], "scope": { "projects": ["Lab/*"], "max-cost-usd": 5.0 },
            "obligations": { "cost-per-day-usd": { "limit": 6.0, "used": 1.25 }, "per-day": { "limit": 500, "used": 12 }, "concurrent": { "limit": 4 }, "approval": "operator" },
            "denied": [] }] });
        let expected = [
            "lab on account research\n\nbacktests",
            "  allow         backtests/*",
            "  max-cost      $5.00",
            "  projects      Lab/*",
            "  approval      operator",
            "  concurrent    4",
            "  cost-per-day  $1.25 of $6.00 used",
            "  per-day       12 of 500 used",
        ]
        .join("\n");
        assert_eq!(text(&report), expected);
    }

    #[test]
    fn what_narrows_the_grants_is_said_before_them() {
        let report = json!({ "plugin": "lab", "account": "research", "halted": "a drill", "restricted": true, "aliases": { "lab.run": "backtest" }, "grants": [] });
        let expected = "lab on account research\nhalted: a drill\nrestricted: its manifest was changed and does not serve yet; the changed manifest must allow a call too, and the smaller limits apply\nalias lab.run of backtest";
        assert_eq!(text(&report), expected);
    }
}
