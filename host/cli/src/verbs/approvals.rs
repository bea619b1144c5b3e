//! `qchost approvals`: requests of plugins that people decide.
//!
//! The host renders what is shown from what it resolved itself: the project by name, the cost, the hash of
//! the source that it compiled, how that differs from what was approved before, and the contents of files
//! and objects. Names and code in it are untrusted, so nothing of it is printed raw.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use qchost_ledger::{Approval, ApprovalFilter, PermitState, Standing};
use qchost_policy::{Person, Usd};
use serde_json::{Value, json};

use crate::args::Approvals;
use crate::config::{Period, dollars_of};
use crate::control::{self, Request, Route, StandingRequest};
use crate::host::Host;
use crate::output::{Output, counted, table};
use crate::terminal;
use crate::verbs::{cell, instant};

/// Carries out the verb.
pub async fn run(route: &Route, verb: Approvals, output: Output) -> Result<()> {
    match verb {
        Approvals::List { all, after, limit } => {
            let is_first = after.is_none();
            let request = Request::Approvals { all, after, limit };
            let mut page = control::perform(route, request, output).await?;
            let more = page.get("more").and_then(Value::as_u64);
            let listed = page.get_mut("approvals").map(Value::take);
            output.result(&listed.unwrap_or_default(), |listed| {
                overview(listed, all, is_first, more.unwrap_or_default())
            })
        }
        Approvals::Show { id, page } => {
            let shown = control::perform(route, Request::Approval { id, page }, output).await?;
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
            let decided = control::perform(route, request, output).await?;
            output.result(&decided, verdict)
        }
        Approvals::Revoke { id } => {
            let request = Request::Revoke { id };
            let revoked = control::perform(route, request, output).await?;
            output.result(&revoked, verdict)
        }
        Approvals::Refuse { id, reason } => {
            let request = Request::Refuse { id, reason };
            let decided = control::perform(route, request, output).await?;
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

/// The approvals of this host, one page at a time.
pub async fn list_by_host(
    host: &Host,
    all: bool,
    after: Option<String>,
    limit: u32,
) -> Result<Value> {
    if let Some(after) = &after {
        let found = host.gate.approval(after).await?;
        found.with_context(|| format!("--after {after}: there is no such approval"))?;
    }
    let filter = ApprovalFilter { all, after, limit };
    let page = host.gate.approvals(filter).await?;
    let listed: Vec<_> = page
        .approvals
        .iter()
        .map(|approval| describe(host, approval))
        .collect();
    Ok(json!({ "approvals": listed, "more": page.more }))
}

/// One approval, with the contents of its call.
pub async fn show_by_host(host: &Host, id: &str, page: u32) -> Result<Value> {
    let shown = host.gate.show_approval(id, page).await?;
    let (approval, contents) = shown.with_context(|| {
        format!("there is no approval `{id}`; list them: qchost approvals list --all")
    })?;
    let mut described = describe(host, &approval);
    if let Value::Object(fields) = &mut described {
        fields.insert("contents".to_owned(), contents);
    }
    Ok(described)
}

/// Revokes a permit, or the approval of a change.
pub async fn revoke_by_host(host: &Host, person: &Person, id: &str) -> Result<Value> {
    let approval = host.gate.revoke(id, person).await?;
    Ok(describe(host, &approval))
}

/// Approves a request.
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
    // It may be a component that awaited it.
    if let Some(follower) = host.follower() {
        follower.look();
    }
    Ok(describe(host, &approval))
}

/// Refuses a request.
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
        "expires": instant(approval.ends()),
        "closed": approval.closed,
        "decisions": decisions,
        "said yes": approval.yes().count(),
        "not by": match approval.needs {
            0 | 1 => Vec::new(),
            _ => approval
                .interested
                .iter()
                .map(|uid| host.name_of(*uid))
                .collect::<Vec<_>>(),
        },
        "permit": approval.permit.as_ref().map(permit),
        "view": approval.view,
    })
}

/// What is left of a permit.
fn permit(permit: &PermitState) -> Value {
    json!({
        "id": permit.id,
        "standing": permit.standing,
        "uses left": permit.uses_left,
        "money left": permit.cost_left.map(|left| Usd(left).to_string()),
        "expires": instant(permit.expires),
        "revoked by": permit.revoked_by,
    })
}

/// What is left of an approval's permit, in a cell.
fn left(approval: &Value) -> String {
    let permit = approval.get("permit").filter(|permit| permit.is_object());
    let Some(permit) = permit else {
        return "-".to_owned();
    };
    if !matches!(permit.get("revoked by"), None | Some(Value::Null)) {
        return "-".to_owned();
    }
    let uses = permit.get("uses left").and_then(Value::as_u64);
    let uses = uses.and_then(|uses| usize::try_from(uses).ok());
    let uses = counted(uses.unwrap_or_default(), "use");
    match cell(permit, "money left").as_str() {
        "-" => uses,
        money => format!("{uses}, {money}"),
    }
}

fn overview(listed: &Value, all: bool, is_first: bool, more: u64) -> String {
    let columns = [
        "id",
        "status",
        "plugin",
        "operation",
        "project",
        "cost",
        "left",
        "expires",
    ];
    let listed: Vec<&Value> = listed.as_array().into_iter().flatten().collect();
    let rows: Vec<_> = listed
        .iter()
        .map(|approval| {
            let shown = |column| match column {
                "left" => left(approval),
                column => cell(approval, column),
            };
            columns.map(shown).to_vec()
        })
        .collect();
    let Some(last) = listed.last() else {
        let text = match (all, is_first) {
            (true, true) => "there are no approvals",
            (true, false) => "there are no more approvals",
            (false, true) => "nothing waits for a decision",
            (false, false) => "nothing more waits for a decision",
        };
        return text.to_owned();
    };
    let mut text = table(&columns, &rows);
    if more > 0 {
        let all = if all { " --all" } else { "" };
        text += &format!(
            "\n{more} more: qchost approvals list{all} --after {}",
            cell(last, "id")
        );
    }
    text
}

/// All of it, for reading before the decision.
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
        "not by",
        "requested",
        "expires",
        "closed",
    ] {
        let value = cell(approval, key);
        if value != "-" {
            text += &format!("{key:<10} {value}\n");
        }
    }
    if let Some(permit) = approval.get("permit").filter(|permit| permit.is_object()) {
        let kind = match permit.get("standing") {
            Some(Value::Bool(true)) => "standing",
            _ => "for the one call",
        };
        text += &format!(
            "{:<10} {}, {kind}, {}, until {}\n",
            "permit",
            cell(permit, "id"),
            match left(approval).as_str() {
                "-" => "nothing left".to_owned(),
                left => format!("{left} left"),
            },
            cell(permit, "expires")
        );
        if !matches!(permit.get("revoked by"), None | Some(Value::Null)) {
            text += &format!("{:<10} by {}\n", "revoked", cell(permit, "revoked by"));
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
    if let Some(contents) = approval.get("contents").filter(|shown| !is_empty(shown)) {
        text.push_str("\ncontents\n");
        render(contents, 1, &mut text);
    }
    let id = cell(approval, "id");
    match cell(approval, "status").as_str() {
        "pending" => {
            text += &format!(
                "\nqchost approvals approve {id}\nqchost approvals refuse {id} --reason \"…\""
            );
        }
        "approved"
            if cell(approval, "kind") == "change"
                || approval.get("permit").is_some_and(Value::is_object) =>
        {
            text += &format!("\nqchost approvals revoke {id}");
        }
        _ => {}
    }
    text
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// A value for reading: one line per field, a block for several lines.
fn render(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let width = fields.keys().map(|key| key.chars().count()).max();
            let width = width.unwrap_or_default().min(24);
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
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

/// A value that fits into one line.
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
    let yes = cell(approval, "said yes");
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
    fn what_is_left_of_a_permit_is_nothing_once_it_is_revoked() {
        let approval = |uses: u64, revoked: Value| json!({ "permit": { "uses left": uses, "money left": "$5.00", "revoked by": revoked } });
        assert_eq!(left(&approval(1, Value::Null)), "1 use, $5.00");
        assert_eq!(left(&approval(2, Value::Null)), "2 uses, $5.00");
        assert_eq!(left(&approval(2, "ann".into())), "-");
        assert_eq!(left(&json!({ "permit": null })), "-");
    }

    #[test]
    fn an_empty_list_says_whether_it_is_the_first_page() {
        let none = json!([]);
        let said = overview(&none, false, true, 0);
        assert_eq!(said, "nothing waits for a decision");
        let said = overview(&none, true, false, 0);
        assert_eq!(said, "there are no more approvals");
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
