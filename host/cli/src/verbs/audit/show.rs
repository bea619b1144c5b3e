//! Formats records for people.

use std::collections::BTreeSet;
use std::fmt::Display;

use anyhow::Result;
use qchost_audit::{Kind, Record, Summary};
use qchost_gate::{AdminDetail, ApprovalDetail, Body, Change, Reconciled, TextWhy, Why};

use crate::output::{fits, folded, print, print_json, records, table};
use crate::requests::{Matches, Verified};
use crate::terminal;
use crate::verbs::cells::{maybe, text, word};

/// The columns of a record.
const COLUMNS: [&str; 9] = [
    "time",
    "kind",
    "plugin",
    "operation",
    "project",
    "decision",
    "outcome",
    "call",
    "details",
];
/// The widths of all columns but the last, for rows that are shown before all are known.
const COLUMN_WIDTHS: [usize; 8] = [27, 9, 20, 32, 20, 10, 12, 16];

/// Shows records as they arrive.
pub struct RecordPrinter {
    form: Form,
    rows: Vec<Vec<String>>,
}

/// How records are shown.
pub enum Form {
    /// Line by line, unchanged.
    Raw,
    /// Line by line, in columns of fixed width.
    Columns,
    /// All at once, in a table.
    Table,
}

impl RecordPrinter {
    pub fn new(form: Form) -> Self {
        let rows = Vec::new();
        Self { form, rows }
    }

    /// Shows a record, or keeps it for the table.
    pub fn line(&mut self, line: &str) -> Result<()> {
        match self.form {
            Form::Raw => print_json(line),
            Form::Columns => print(&one(row(line))),
            Form::Table => {
                self.rows.push(row(line));
                Ok(())
            }
        }
    }

    /// Shows the table.
    pub fn end(&self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        print(&table(&COLUMNS, &self.rows))
    }
}

/// A row shows what records of every kind share, so that one of an unknown kind has a row as well.
fn row(line: &str) -> Vec<String> {
    let Ok(record) = Record::parse(line.to_owned()) else {
        return vec![terminal::line(line)];
    };
    let found = record.summary();
    let project = found.project.unwrap_or_default();
    let id = project.id.map(|id| id.to_string());
    vec![
        maybe(record.time_text()),
        maybe(record.kind_word()),
        maybe(found.plugin),
        // A person's action is shown in the column of the operation.
        maybe(found.operation.or(found.what)),
        maybe(project.name.or(id.as_deref())),
        maybe(found.decision),
        maybe(found.outcome),
        maybe(found.call),
        details(&record, &found).join("\n"),
    ]
}

/// Further details of a record, one per line: its principal, its subject, and the reason.
fn details(record: &Record, found: &Summary<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reason = found.reason.map(str::to_owned);
    // Calls are most of the records, and the summary has all that is shown of them.
    match record.kind() {
        Some(Kind::Approval | Kind::Admin | Kind::Halt) => {
            lines.push(action(found));
            reason = reason.or_else(|| reason_in_detail(&Body::read(record)));
        }
        Some(Kind::Intent) => lines.extend(found.permit.map(|permit| format!("use: {permit}"))),
        Some(Kind::Change) => {
            if let Body::Change(change) = Body::read(record) {
                lines.extend(of_change(&change));
            }
        }
        _ => {}
    }
    lines.extend(reason);
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() {
        return vec!["-".to_owned()];
    }
    lines.iter().map(|line| terminal::line(line)).collect()
}

/// An action of a person or of the host: what it was about, and by whom or for whom it was done.
fn action(found: &Summary<'_>) -> String {
    let ids = [found.approval, found.permit].into_iter().flatten();
    let ids = ids.collect::<Vec<_>>().join(", ");
    // If there is an operation, the action has no column.
    let what = found.what.filter(|_| found.operation.is_some());
    let line = match (what, ids.is_empty()) {
        (Some(what), false) => format!("{what}: {ids}"),
        (Some(what), true) => what.to_owned(),
        (None, _) => ids,
    };
    let line = line + &by(found.person_name, found.person);
    line.trim_start().to_owned()
}

/// The person of a record, to follow what was done; empty if none is recorded.
fn by(name: Option<&str>, uid: Option<impl Display>) -> String {
    match (name, uid) {
        (Some(name), Some(uid)) => {
            let uid = format!(" (uid {uid})");
            // Of the file that halts, the owner is part of the name.
            let name = name.strip_suffix(uid.as_str()).unwrap_or(name);
            format!(" by {name}{uid}")
        }
        (None, Some(uid)) => format!(" for uid {uid}"),
        _ => String::new(),
    }
}

/// Why a person refused something, or why it was not done.
fn reason_in_detail(body: &Body) -> Option<String> {
    match body {
        Body::Approval(step) => match step.detail.as_ref()? {
            ApprovalDetail::Refuse { reason, .. } => Some(reason.clone()),
            // The record of an attempt is written before the result is known.
            ApprovalDetail::Failed {
                attempt, reason, ..
            } => Some(format!("{attempt}: {reason}")),
            _ => None,
        },
        Body::Admin(action) => match action.detail.as_ref()? {
            AdminDetail::Failed { reason } | AdminDetail::Denied { reason, .. } => {
                Some(reason.clone())
            }
            AdminDetail::Account {
                account,
                ends,
                reason,
            } => Some(match (reason, ends) {
                (Some(reason), _) => format!("account {account}: {reason}"),
                (None, Some(ends)) => {
                    format!("account {account}: the authorization ends at {ends}")
                }
                (None, None) => format!("account {account}"),
            }),
            _ => None,
        },
        _ => None,
    }
}

/// A change of what is in force: the file, its owner, who asked for the reload, the digests, and the
/// difference.
fn of_change(change: &Change) -> Vec<String> {
    let mut origin = change.file.clone().unwrap_or_default();
    for (words, who) in [
        ("of", uids(&change.owners)),
        ("asked for by", uids(&change.asked_by)),
        ("decided by", change.by.clone()),
    ] {
        if let Some(who) = who {
            origin += &format!(" {words} {who}");
        }
    }
    if change.at_start {
        origin += " (found at the start)";
    }
    let digest = |digest: &Option<String>| digest.as_deref().unwrap_or("nothing").to_owned();
    let digests = format!(
        "{} → {}",
        digest(&change.digest_before),
        digest(&change.digest_after)
    );
    let mut lines = vec![origin.trim_start().to_owned(), digests];
    lines.extend(change.difference.iter().cloned());
    lines.extend(change.note.clone());
    lines
}

/// User ids in words, if there are any.
fn uids(uids: &BTreeSet<u32>) -> Option<String> {
    let uids: Vec<_> = uids.iter().map(|uid| format!("uid {uid}")).collect();
    (!uids.is_empty()).then(|| uids.join(", "))
}

/// A record in columns, or as a block where they are too wide.
fn one(row: Vec<String>) -> String {
    let line = columns(&row);
    match fits(&line) {
        true => line,
        false => records(&COLUMNS, &[row]) + "\n",
    }
}

fn columns(row: &[String]) -> String {
    let widths = COLUMN_WIDTHS.iter().copied().chain(std::iter::repeat(0));
    let cells: Vec<_> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{:<width$}", cell.replace('\n', "; ")))
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// A message that a query found nothing, and which of its names occur in no record; `None` if it found
/// something.
pub fn nothing_found(found: &Matches) -> Option<String> {
    if found.found > 0 {
        return None;
    }
    let unnamed = found.unnamed.iter();
    let lines = unnamed.map(|what| format!("; no record names {}", terminal::line(what)));
    Some(format!("no record matches{}", lines.collect::<String>()))
}

/// The result of verifying.
pub fn report(verified: &Verified) -> String {
    let lines: Vec<String> = terminal::block(&verified.text)
        .lines()
        .map(folded)
        .collect();
    let text = lines.join("\n");
    // The head is kept elsewhere: a value to copy stays in one line.
    match &verified.report.head {
        Some(head) => format!("{text}\nhead: {}", terminal::line(head)),
        None => text,
    }
}

/// Why a call was decided as it was.
pub fn why(why: &Why) -> String {
    let mut lines = vec![format!(
        "call {}: {}",
        terminal::line(&why.call),
        or_unknown(why.decision.as_deref())
    )];
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{name:<15}{}", terminal::line(&value)));
        }
    };
    put("time", why.time.clone());
    put("operation", why.operation.clone());
    put("class", why.access.clone());
    put("plugin", why.plugin.clone());
    put("account", why.account.clone());
    let project = why.project.as_ref().map(serde_json::to_string);
    put("project", project.and_then(Result::ok));
    put("invocation", why.invocation.clone());
    put("action", why.action.clone());
    put("alias", why.alias.clone());
    put("asked by", why.person.map(|uid| format!("uid {uid}")));
    put("reason", why.reason.clone());
    put("permit", why.permit.clone());
    put("reservation", why.reservation.map(|id| id.to_string()));
    let times = |times| match times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    put("sent", why.sends.map(times));
    put(
        "cached",
        why.cached_ms
            .map(|age| format!("the answer is from the cache, {age} ms old")),
    );
    match &why.outcome {
        Some(outcome) => put(
            "outcome",
            Some(format!(
                "{}{}",
                outcome.outcome,
                outcome
                    .reason
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}"))
            )),
        ),
        None if why.decision.as_deref() == Some("allowed") => {
            put("outcome", Some("not known (yet)".to_owned()));
        }
        None => {}
    }
    for (what, text) in [
        ("manifest", &why.manifest),
        ("changed manifest", &why.manifest_pending),
        ("guardrails", &why.guardrails),
        ("configuration", &why.configuration),
        ("changed configuration", &why.configuration_pending),
        ("component", &why.component),
    ] {
        if let Some(text) = text {
            lines.push(String::new());
            lines.extend(text_lines(what, text));
        }
    }
    for (what, parts) in [("grant", &why.grants), ("guardrail", &why.forbidden_by)] {
        for part in parts {
            let digest = part.digest.as_deref();
            lines.push(String::new());
            lines.push(format!(
                "{what} `{}` in {}:",
                terminal::line(&part.name),
                terminal::line(digest.unwrap_or("a text that is missing"))
            ));
            lines.extend(part.text.iter().map(|text| indented(text)));
        }
    }
    if let Some(approval) = &why.approval {
        lines.push(String::new());
        lines.push(format!("approval {}:", terminal::line(&approval.id)));
        for step in &approval.steps {
            let who = by(step.person_name.as_deref(), step.person);
            let more = step.permit.as_ref().map(|permit| format!(": {permit}"));
            let line = format!(
                "{}  {}{who}{}",
                or_unknown(step.time.as_deref()),
                step.what,
                more.unwrap_or_default()
            );
            lines.push(indented(&terminal::line(&line)));
        }
    }
    lines.join("\n")
}

fn text_lines(what: &str, text: &TextWhy) -> Vec<String> {
    let mut lines = vec![format!("{what} {}", terminal::line(&text.digest))];
    if let Some(change) = &text.change {
        let mut line = format!("in force since {}", or_unknown(text.since.as_deref()));
        if let Some(file) = &change.file {
            line.push_str(&format!(", from {file}"));
        }
        if let Some(owners) = uids(&change.owners) {
            line.push_str(&format!(" (owner: {owners})"));
        }
        if let Some(people) = uids(&change.asked_by) {
            line.push_str(&format!(", reloaded by {people}"));
        }
        lines.push(indented(&terminal::line(&line)));
        lines.extend(
            change
                .difference
                .iter()
                .map(|line| indented(&terminal::line(line))),
        );
    }
    if let Some(missing) = &text.missing {
        lines.push(indented(&terminal::line(missing)));
    }
    lines
}

fn or_unknown(text: Option<&str>) -> &str {
    text.unwrap_or("unknown")
}

fn indented(text: &str) -> String {
    let text = terminal::block(text);
    let lines = text.lines().map(|line| format!("  {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The results of `audit reconcile`.
pub fn reconciled(found: &[Reconciled]) -> String {
    let columns = [
        "call",
        "account",
        "plugin",
        "operation",
        "finding",
        "message",
    ];
    let rows: Vec<_> = found
        .iter()
        .map(|call| {
            vec![
                text(&call.call),
                text(&call.account),
                text(&call.plugin),
                text(&call.operation),
                word(call.finding),
                text(&call.message),
            ]
        })
        .collect();
    if rows.is_empty() {
        "every call has its outcome".to_owned()
    } else {
        table(&columns, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_row_whatever_is_in_it() {
        let line = r#"{"seq":1,"time":"2026-01-01T00:00:00.000001Z","kind":"denied","plugin":"lab","operation":"files/read-file","project":{"id":7,"name":"Lab/\u001bx"},"decision":"denied","reason":"no grant"}"#;
        assert_eq!(
            row(line),
            [
                "2026-01-01T00:00:00.000001Z",
                "denied",
                "lab",
                "files/read-file",
                "Lab/\\u{1b}x",
                "denied",
                "-",
                "-",
                "no grant"
            ]
        );
        assert_eq!(row(r#"{"kind":"admin","what":"backup"}"#)[3], "backup");
        assert_eq!(row("\u{1b}"), ["\\u{1b}"]);
        let decided = r#"{"kind":"approval","what":"revoke","approval":"ap-1","permit":"pe-1","person":7,"person-name":"ann","detail":{"reason":"no"}}"#;
        let decided = row(decided);
        assert_eq!(decided[3], "revoke");
        assert_eq!(decided[8], "ap-1, pe-1 by ann (uid 7)\nno");
        assert!(super::columns(&decided).ends_with("ap-1, pe-1 by ann (uid 7); no"));
        let called =
            row(r#"{"kind":"intent","call":"19ad3b7c2f1-17","operation":"files/read-file"}"#);
        assert_eq!(called[7], "19ad3b7c2f1-17");
        let halted = r#"{"kind":"halt","what":"halt","reason":"drill","person":7,"person-name":"file DATA/halt (uid 7)"}"#;
        let halted = row(halted)[8].replace('\n', "; ");
        assert_eq!(halted.matches("(uid 7)").count(), 1, "{halted}");
        let used = r#"{"kind":"intent","operation":"live/create-live-algorithm","permit":"pm-1"}"#;
        assert_eq!(row(used)[8], "use: pm-1");
        for what in ["request", "approve", "refuse", "revoke", "use"] {
            let of_call = format!(
                r#"{{"kind":"approval","what":"{what}","operation":"live/create-live-algorithm","approval":"ap-1"}}"#
            );
            let of_call = row(&of_call);
            assert_eq!(of_call[3], "live/create-live-algorithm");
            assert_eq!(of_call[8], format!("{what}: ap-1"));
        }
        let failed = r#"{"kind":"approval","what":"not decided","approval":"ap-1","detail":{"attempt":"revoke","reason":"it is over"}}"#;
        assert_eq!(row(failed)[8], "ap-1\nrevoke: it is over");
        let change = r#"{"kind":"change","what":"manifest","plugin":"lab","file":"/p/lab.toml","owners":[0],"asked-by":[7],"digest-after":"sha256:00","difference":["added: files/*","line\nbreak"]}"#;
        assert_eq!(
            row(change)[8],
            "/p/lab.toml of uid 0 asked for by uid 7\nnothing → sha256:00\nadded: files/*\nline\\nbreak"
        );
        let of_another_version = row(
            r#"{"kind":"change","what":"schedule","file":"/p/s.toml","digest-after":"sha256:00","member":1}"#,
        );
        assert_eq!(of_another_version[3], "schedule");
        assert_eq!(of_another_version[8], "/p/s.toml\nnothing → sha256:00");
        let unknown = row(
            r#"{"kind":"of another version","plugin":"lab","what":"x","project":{"id":7},"reason":"y"}"#,
        );
        assert_eq!(
            unknown,
            [
                "-",
                "of another version",
                "lab",
                "x",
                "7",
                "-",
                "-",
                "-",
                "y"
            ]
        );
        let columns = columns(&row(line));
        assert!(columns.contains("denied     lab  "), "{columns}");
    }
}
