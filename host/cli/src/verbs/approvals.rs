//! `qchost approvals`: what plugins ask people for.
//!
//! What is shown was rendered by the host from what it resolved itself: the project by name, the cost, the
//! hash of the source that it compiled and how that differs from what was approved before. Names and code
//! in it were written by others, so nothing of it is printed raw.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use qchost_ledger::{Approval, Standing};
use qchost_policy::{Person, Usd};
use serde_json::{Value, json};

use crate::args::Approvals;
use crate::config::{Config, Period, dollars_of};
use crate::control::{self, Request, StandingRequest};
use crate::host::Host;
use crate::output::{Output, table};
use crate::terminal;
use crate::verbs::{cell, instant};

/// Does what was asked for.
pub async fn run(config: &Config, verb: Approvals, output: Output) -> Result<()> {
    match verb {
        Approvals::List { all } => {
            let request = Request::Approvals { all };
            let listed = control::perform(config, request, output).await?;
            output.result(&listed, |listed| overview(listed, all))
        }
        Approvals::Show { id } => {
            let shown = control::perform(config, Request::Approval { id }, output).await?;
            output.result(&shown, show)
        }
        Approvals::Approve {
            id,
            uses,
            r#for,
            max_cost,
        } => {
            let standing = standing(uses, r#for, max_cost)?;
            let request = Request::Approve { id, standing };
            let decided = control::perform(config, request, output).await?;
            output.result(&decided, verdict)
        }
        Approvals::Refuse { id, reason } => {
            let request = Request::Refuse { id, reason };
            let decided = control::perform(config, request, output).await?;
            output.result(&decided, verdict)
        }
    }
}

fn standing(
    uses: Option<u32>,
    period: Option<Period>,
    max_cost: Option<f64>,
) -> Result<Option<StandingRequest>> {
    let (Some(uses), Some(Period(period))) = (uses, period) else {
        return Ok(None);
    };
    let max_cost = match max_cost {
        None => None,
        Some(dollars) => Some(
            dollars_of(dollars)
                .with_context(|| format!("--max-cost {dollars}: not a sum of money"))?
                .0,
        ),
    };
    Ok(Some(StandingRequest {
        uses,
        for_ms: u64::try_from(period.as_millis()).context("--for: too long")?,
        max_cost,
    }))
}

/// The approvals of this host.
pub async fn list_by_host(host: &Host, all: bool) -> Result<Value> {
    let approvals = host.gate.approvals(all).await?;
    Ok(approvals
        .iter()
        .map(|approval| describe(host, approval))
        .collect())
}

/// One of them.
pub async fn show_by_host(host: &Host, id: &str) -> Result<Value> {
    let approval = host.gate.approval(id).await?;
    let approval = approval.with_context(|| {
        format!("there is no approval `{id}`; list them: qchost approvals list --all")
    })?;
    Ok(describe(host, &approval))
}

/// Says yes.
pub async fn approve_by_host(
    host: &Host,
    person: &Person,
    id: &str,
    standing: Option<StandingRequest>,
) -> Result<Value> {
    let standing = standing
        .map(|standing| {
            let until = now_ms()?
                .checked_add_unsigned(standing.for_ms)
                .context("--for: too long")?;
            anyhow::Ok(Standing {
                uses: standing.uses,
                until_ms: until,
                max_cost: standing.max_cost,
            })
        })
        .transpose()?;
    let approval = host.gate.approve(id, person, standing).await?;
    // It may be a component that waited for it.
    if let Some(follower) = host.follower() {
        follower.look();
    }
    Ok(describe(host, &approval))
}

/// Says no.
pub async fn refuse_by_host(host: &Host, person: &Person, id: &str, reason: &str) -> Result<Value> {
    let approval = host.gate.refuse(id, person, reason).await?;
    Ok(describe(host, &approval))
}

fn now_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// An approval as the command line shows it; instants are RFC 3339, costs are dollars as text.
fn describe(host: &Host, approval: &Approval) -> Value {
    let binding = &approval.binding;
    let decisions: Vec<_> = approval
        .decisions
        .iter()
        .map(|decision| {
            json!({
                "by": decision.name,
                "uid": decision.uid,
                "at": instant(decision.at),
                "verdict": decision.verdict,
                "reason": decision.reason,
            })
        })
        .collect();
    json!({
        "id": approval.id,
        "status": approval.status,
        "kind": approval.kind,
        "account": binding.account,
        "plugin": binding.plugin,
        "digest": binding.digest,
        "operation": binding.operation,
        "project": approval.scope.get("name"),
        "cost": Usd(approval.cost).to_string(),
        "needs": approval.needs,
        "requester": approval.requester.map(|uid| host.name_of(uid)),
        "requested": instant(approval.requested),
        "expires": instant(approval.expires),
        "decisions": decisions,
        "view": approval.view,
    })
}

fn overview(listed: &Value, all: bool) -> String {
    let columns = [
        "id",
        "status",
        "plugin",
        "operation",
        "project",
        "cost",
        "expires",
    ];
    let rows: Vec<_> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|approval| columns.map(|column| cell(approval, column)).to_vec())
        .collect();
    match (rows.is_empty(), all) {
        (true, true) => "nothing was ever asked for".to_owned(),
        (true, false) => "nothing waits for a decision".to_owned(),
        (false, _) => table(&columns, &rows),
    }
}

/// The whole of it, for reading before the decision.
fn show(approval: &Value) -> String {
    let mut text = String::new();
    for key in [
        "id",
        "status",
        "kind",
        "account",
        "plugin",
        "digest",
        "operation",
        "project",
        "cost",
        "needs",
        "requester",
        "requested",
        "expires",
    ] {
        let value = cell(approval, key);
        if value != "-" {
            text += &format!("{key:<10} {value}\n");
        }
    }
    for decision in approval
        .get("decisions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let [by, verdict, at, reason] =
            ["by", "verdict", "at", "reason"].map(|key| cell(decision, key));
        text += &format!("{verdict:<10} by {by} at {at}: {reason}\n");
    }
    if let Some(view) = approval.get("view") {
        text.push('\n');
        render(view, 0, &mut text);
    }
    let id = cell(approval, "id");
    if cell(approval, "status") == "pending" {
        text += &format!(
            "\nqchost approvals approve {id}\nqchost approvals refuse {id} --reason \"…\""
        );
    }
    text
}

/// A value for reading: a line a field, a block for what has several lines.
fn render(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let width = fields.keys().map(|key| key.chars().count()).max();
            let width = width.unwrap_or_default().min(24);
            for (key, value) in fields {
                let key = terminal::line(key);
                match inline(value) {
                    Some(value) => *text += &format!("{indent}{key:<width$}  {value}\n"),
                    None => {
                        *text += &format!("{indent}{key}\n");
                        render(value, depth + 1, text);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match inline(item) {
                    Some(item) => *text += &format!("{indent}{item}\n"),
                    None => {
                        render(item, depth, text);
                        text.push('\n');
                    }
                }
            }
        }
        Value::String(block) => {
            for line in terminal::block(block).lines() {
                *text += &format!("{indent}{line}\n");
            }
        }
        other => *text += &format!("{indent}{other}\n"),
    }
}

/// A value that fits into a line.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains('\n') => None,
        Value::String(text) => Some(terminal::line(text)),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items
                .iter()
                .map(|item| match item {
                    Value::Array(_) | Value::Object(_) => None,
                    item => inline(item),
                })
                .collect();
            items.map(|items| items.join(", "))
        }
        Value::Object(_) => None,
        Value::Null => Some("-".to_owned()),
        other => Some(other.to_string()),
    }
}

fn verdict(approval: &Value) -> String {
    let [id, status, needs] = ["id", "status", "needs"].map(|key| cell(approval, key));
    let yes = approval
        .get("decisions")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    match status.as_str() {
        "pending" => format!("{id}: {yes} of {needs} people said yes; another one has to"),
        status => format!("{id}: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_shown_whole_and_nothing_of_it_acts_on_the_terminal() {
        let approval = json!({
            "id": "ap-abcdefghij",
            "status": "pending",
            "plugin": "strategy-lab",
            "project": "Lab/\u{1b}[2Jx",
            "decisions": [{ "by": "ann", "verdict": "approved", "at": "2026-01-01T00:00:00Z", "reason": null }],
            "view": {
                "source": { "hash": "sha256:00", "diff": "-old\n+new\u{1b}[31m\n" },
                "nodes": ["a", "b"],
                "notes": [],
            },
        });
        let text = show(&approval);
        for expected in [
            "id         ap-abcdefghij\n",
            "project    Lab/\\u{1b}[2Jx\n",
            "approved   by ann at 2026-01-01T00:00:00Z",
            "source\n  hash  sha256:00\n  diff\n    -old\n    +new\\u{1b}[31m\n",
            "nodes   a, b\n",
            "notes   none\n",
            "qchost approvals refuse ap-abcdefghij --reason",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_standing_yes_needs_its_bounds() {
        let hours = "8h".parse().ok();
        assert!(standing(None, None, None).unwrap().is_none());
        let given = standing(Some(10), hours, Some(50.0)).unwrap().unwrap();
        assert_eq!(
            (given.uses, given.for_ms, given.max_cost),
            (10, 28_800_000, Some(500_000))
        );
        for cost in [f64::NAN, -1.0, f64::INFINITY] {
            assert!(standing(Some(10), hours, Some(cost)).is_err(), "{cost}");
        }
    }
}
