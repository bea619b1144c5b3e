//! `qchost approvals`: requests of plugins that people decide.
//!
//! Names and code in what is shown are untrusted, so nothing of it is printed raw.

use anyhow::{Context as _, Result};
use qchost_ledger::{ApprovalKind, Status};
use serde_json::Value;

use super::cells::{list, maybe, text, word};
use crate::args::Approvals;
use crate::config::{Period, dollars_of};
use crate::control::{self, Approach, Route};
use crate::output::{Output, counted, fields, folded, table};
use crate::requests::{ApprovalRow, Approve, PermitRow, StandingRequest};
use crate::terminal;

/// Carries out the verb.
pub async fn run(route: &Route, verb: Approvals, output: Output) -> Result<()> {
    match verb {
        Approvals::List(request) => {
            let (all, is_first) = (request.all, request.after.is_none());
            let approach = control::approach(route).await?;
            if matches!(approach, Approach::Alone { .. }) {
                output.note("no host runs: this is what one that starts here finds");
            }
            let mut display = output.progress();
            let page = approach.perform(route, request, output, &mut display).await;
            display.done();
            let page = page?;
            output.result(&page.approvals, |listed| {
                overview(listed, all, is_first, page.more)
            })
        }
        Approvals::Show(request) => {
            output.result(&control::perform(route, request, output).await?, show)
        }
        Approvals::Approve {
            id,
            uses,
            r#for,
            max_cost,
        } => {
            let standing = standing(uses, r#for, max_cost)?;
            let request = Approve { id, standing };
            output.result(&control::perform(route, request, output).await?, outcome)
        }
        Approvals::Revoke(request) => {
            output.result(&control::perform(route, request, output).await?, outcome)
        }
        Approvals::Refuse(request) => {
            output.result(&control::perform(route, request, output).await?, outcome)
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

/// What is left of an approval's permit, if it was not revoked.
fn left(permit: Option<&PermitRow>) -> Option<String> {
    let permit = permit.filter(|permit| permit.revoked_by.is_none())?;
    let uses = counted(usize::try_from(permit.uses_left).ok()?, "use");
    Some(match permit.money_left_usd {
        None => uses,
        Some(money) => format!("{uses}, {money}"),
    })
}

fn overview(listed: &[ApprovalRow], all: bool, is_first: bool, more: u64) -> String {
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
    let rows: Vec<_> = listed
        .iter()
        .map(|approval| {
            vec![
                text(&approval.id),
                word(approval.status),
                text(&approval.plugin),
                text(&approval.operation),
                maybe(approval.project.as_ref()),
                approval.cost_usd.to_string(),
                maybe(left(approval.permit.as_ref())),
                maybe(approval.expires),
            ]
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
    let mut shown = table(&columns, &rows);
    if more > 0 {
        let all = if all { " --all" } else { "" };
        shown += &format!(
            "\n{more} more: qchost approvals list{all} --after {}",
            text(&last.id)
        );
    }
    shown
}

/// All of it, for reading before the decision.
fn show(approval: &ApprovalRow) -> String {
    let mut rows = vec![
        ("id", text(&approval.id)),
        ("status", word(approval.status)),
        ("kind", word(approval.kind)),
        ("account", text(&approval.account)),
        ("plugin", text(&approval.plugin)),
        ("digest", text(&approval.digest)),
        ("operation", text(&approval.operation)),
        ("project", maybe(approval.project.as_ref())),
        ("cost", approval.cost_usd.to_string()),
        ("needs", approval.needs.to_string()),
        ("requester", maybe(approval.requester.as_ref())),
        ("not by", list(&approval.not_by)),
        ("requested", maybe(approval.requested)),
        ("expires", maybe(approval.expires)),
        ("closed", maybe(approval.closed.as_ref())),
    ];
    rows.retain(|(_, value)| value != "-");
    if let Some(permit) = &approval.permit {
        let kind = match permit.standing {
            true => "standing",
            false => "for the one call",
        };
        let left = match left(Some(permit)) {
            None => "nothing left".to_owned(),
            Some(left) => format!("{left} left"),
        };
        let until = maybe(permit.expires);
        let permitted = format!("{}, {kind}, {left}, until {until}", text(&permit.id));
        rows.push(("permit", permitted));
        if let Some(by) = &permit.revoked_by {
            rows.push(("revoked", format!("by {}", text(by))));
        }
    }
    let mut rows: Vec<(String, String)> = rows
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    rows.extend(approval.decisions.iter().map(|decision| {
        let by = text(&decision.by);
        let decided = format!(
            "by {by} at {}: {}",
            maybe(decision.at),
            text(&decision.reason)
        );
        (word(decision.verdict), decided)
    }));
    let mut shown = fields(0, &rows) + "\n\n";
    render(&approval.view, 0, &mut shown);
    if let Some(contents) = approval.contents.as_ref().filter(|it| !is_empty(it)) {
        shown.push_str("\ncontents\n");
        render(contents, 1, &mut shown);
    }
    let id = text(&approval.id);
    match approval.status {
        Status::Pending => {
            shown += &format!(
                "\nqchost approvals approve {id}\nqchost approvals refuse {id} --reason \"…\""
            );
        }
        Status::Approved if approval.kind == ApprovalKind::Change || approval.permit.is_some() => {
            shown += &format!("\nqchost approvals revoke {id}");
        }
        _ => {}
    }
    shown
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

/// What came of a decision.
fn outcome(approval: &ApprovalRow) -> String {
    let id = text(&approval.id);
    match approval.status {
        Status::Pending => format!(
            "{id}: {} of {} people said yes; another one has to",
            approval.said_yes, approval.needs
        ),
        Status::Approved => {
            let mut words = format!(
                "{id}: approved: {} by {} on account {}",
                text(&approval.operation),
                text(&approval.plugin),
                text(&approval.account)
            );
            if let Some(project) = &approval.project {
                words += &format!(", project {}", text(project));
            }
            if let Some(left) = left(approval.permit.as_ref()) {
                words += &format!(", {left}");
            }
            if let Some(expires) = approval.permit.as_ref().and_then(|permit| permit.expires) {
                words += &format!(", until {expires:.0}");
            }
            folded(&words)
        }
        status => format!("{id}: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use qchost_policy::Dollars;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_approval_is_shown_whole_and_nothing_of_it_acts_on_the_terminal() {
        let approval = json!({
            "id": "ap-abcdefghij",
            "status": "pending",
            "kind": "call",
            "account": "research",
            "plugin": "strategy-lab",
            "digest": "sha256:00",
            "operation": "live/create-live-algorithm",
            "project": "Lab/\u{1b}[2Jx",
            "cost-usd": 1.5,
            "needs": 1,
            "decisions": [{ "by": "ann", "uid": 7, "verdict": "approved", "at": "2026-01-01T00:00:00Z", "reason": "" }],
            "said-yes": 1,
            "not-by": [],
            "view": {
                "source": { "hash": "sha256:00", "diff": "-old\n+new\u{1b}[31m\n" },
                "nodes": ["a", "b"],
                "notes": [],
            },
        });
        let text = show(&serde_json::from_value(approval).unwrap());
        for expected in [
            "id         ap-abcdefghij\n",
            "project    Lab/\\u{1b}[2Jx\n",
            "cost       $1.50\n",
            "approved   by ann at 2026-01-01T00:00:00Z",
            "source\n  hash  sha256:00\n  diff\n    -old\n    +new\\u{1b}[31m\n",
            "nodes   a, b\n",
            "notes   none\n",
            "qchost approvals refuse ap-abcdefghij --reason",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(!text.contains("\n\n\n"), "{text}");
    }

    #[test]
    fn what_is_left_of_a_permit_is_nothing_once_it_is_revoked() {
        let permit = |uses_left: u32, revoked_by: Option<&str>| PermitRow {
            id: "pm-abcdefghij".to_owned(),
            standing: true,
            uses_left,
            money_left_usd: Dollars::try_from(5.0).ok(),
            expires: None,
            revoked_by: revoked_by.map(str::to_owned),
        };
        let left = |permit: Option<PermitRow>| maybe(left(permit.as_ref()));
        assert_eq!(left(Some(permit(1, None))), "1 use, $5.00");
        assert_eq!(left(Some(permit(2, None))), "2 uses, $5.00");
        assert_eq!(left(Some(permit(2, Some("ann")))), "-");
        assert_eq!(left(None), "-");
    }

    #[test]
    fn a_decision_says_what_was_approved_and_within_which_bounds() {
        let approval = json!({
            "id": "ap-abcdefghij",
            "status": "approved",
            "kind": "call",
            "account": "research",
            "plugin": "strategy-lab",
            "digest": "sha256:00",
            "operation": "backtests/create-backtest",
            "project": "Lab/x",
            "cost-usd": 1.5,
            "needs": 1,
            "decisions": [],
            "said-yes": 1,
            "not-by": [],
            "permit": {
                "id": "pm-abcdefghij",
                "standing": true,
                "uses-left": 10,
                "money-left-usd": 50.0,
                "expires": "2026-01-01T00:00:00Z",
                "revoked-by": null,
            },
            "view": {},
        });
        let said = outcome(&serde_json::from_value(approval).unwrap());
        assert_eq!(
            said,
            "ap-abcdefghij: approved: backtests/create-backtest by strategy-lab on account research, project Lab/x, \
             10 uses, $50.00, until 2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn an_empty_list_says_whether_it_is_the_first_page() {
        let said = overview(&[], false, true, 0);
        assert_eq!(said, "nothing waits for a decision");
        let said = overview(&[], true, false, 0);
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
