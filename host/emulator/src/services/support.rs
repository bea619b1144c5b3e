//! `/organizations/support/tickets/…` and `/community/data-library/issues/…`: what a person at QuantConnect would read.
//!
//! No person answers: a ticket has the messages of its author alone, and an issue stays open. The month's quota of
//! tickets is four, and never comes back.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::Arguments;
use super::cloud::Cloud;
use super::organizations::USER_NAME;
use crate::store::assistance::{DataIssue, Ticket};
use crate::store::kept::Kept;
use crate::store::{State, limits};

/// New tickets of a month.
const ALLOWANCE: usize = 4;
/// Closed tickets of a page.
const PAGE: usize = 10;
/// Issues of a page, if the request does not say.
const ISSUES: i64 = 20;
/// What an issue can be, under the names of the request and of the answer.
const KINDS: [(&str, &str); 8] = [
    ("corrupted-files", "corruptedFile"),
    ("missing-points", "missingPoints"),
    ("missing-files", "missingFile"),
    ("wrong-values", "wrongValues"),
    ("listing-error", "listingError"),
    ("split-error", "splitError"),
    ("dividend-error", "dividendError"),
    ("name-mapping-error", "mappingError"),
];
const SECURITIES: [&str; 10] = [
    "Equity",
    "Equity Option",
    "Index",
    "Index Option",
    "Future",
    "Future Option",
    "Forex",
    "CFD",
    "Crypto",
    "Crypto Future",
];

pub(crate) fn create_ticket(
    cloud: &Arc<Cloud>,
    state: &mut State,
    arguments: &Arguments,
) -> Answer {
    cloud.check_organization(arguments)?;
    arguments.filled_text("message")?;
    let message = arguments.note("message")?.to_owned();
    let close = arguments
        .optional("close", Arguments::flag)?
        .unwrap_or(false);
    if let Some(hash) = arguments.optional("hash", Arguments::text)? {
        let ticket = state.tickets.iter_mut().find(|ticket| ticket.hash == hash);
        let ticket = ticket.ok_or_else(|| Refusal::not_found("Ticket", hash))?;
        if ticket.messages.len() >= limits::MESSAGES {
            return Err(Refusal::full(limits::MESSAGES, "messages of a ticket"));
        }
        ticket.messages.push(message);
        // A comment reopens a ticket.
        ticket.closed = close;
        return Reply::success(json!({ "hash": ticket.hash }));
    }
    if close {
        refuse!("Only a ticket that exists can be closed: hash is missing");
    }
    let subject = arguments.name("subject")?.to_owned();
    let attached = attached(state, arguments, ["projectId", "backtestId", "deployId"])?;
    if state.tickets.len() >= ALLOWANCE {
        refuse!("The organization has used its tickets of this month");
    }
    let hash = state.next_id();
    let ticket = Ticket {
        hash: hash.clone(),
        subject,
        closed: false,
        messages: vec![message],
        attached,
    };
    state.tickets.push(ticket.into());
    Reply::success(json!({ "hash": hash }))
}

pub(crate) fn read_ticket(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let hash = arguments.text("hash")?;
    let ticket = state.tickets.iter().find(|ticket| ticket.hash == hash);
    let ticket = ticket.ok_or_else(|| Refusal::not_found("Ticket", hash))?;
    let message = |text: &String| json!({ "message": text, "name": USER_NAME, "profile": "", "myself": true });
    let messages: Vec<Value> = ticket.messages.iter().map(message).collect();
    Reply::success(json!({ "messages": messages }))
}

pub(crate) fn list_tickets(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let page = arguments
        .optional("closedPage", Arguments::integer)?
        .unwrap_or(0);
    let start = usize::try_from(page)
        .ok()
        .and_then(|page| page.checked_mul(PAGE))
        .ok_or_else(|| Refusal::invalid("closedPage", "a page from 0"))?;
    let shown = |ticket: &Ticket| {
        json!({
            "hash": ticket.hash,
            "title": ticket.subject,
            "status": if ticket.closed { "closed" } else { "open" },
            "data": ticket.attached,
        })
    };
    let tickets = state.tickets.iter().map(Kept::value);
    let (closed, open): (Vec<&Ticket>, Vec<&Ticket>) = tickets.partition(|ticket| ticket.closed);
    let page_of: Vec<Value> = closed
        .iter()
        .skip(start)
        .take(PAGE)
        .map(|ticket| shown(ticket))
        .collect();
    Reply::success(json!({
        "open": open.into_iter().map(shown).collect::<Vec<_>>(),
        "closed": page_of,
        "closedPage": page,
        "totalClosed": closed.len(),
        "allowance": ALLOWANCE,
        "remaining": ALLOWANCE.saturating_sub(state.tickets.len()),
    }))
}

pub(crate) fn create_issue(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let mut fields = Map::new();
    for name in [
        "ticker",
        "security",
        "market",
        "resolution",
        "from-date",
        "to-date",
    ] {
        fields.insert(name.to_owned(), arguments.name(name)?.into());
    }
    if !SECURITIES.contains(&arguments.text("security")?) {
        return Err(Refusal::invalid("security", &SECURITIES.join(", ")));
    }
    arguments.filled_text("content")?;
    fields.insert("content".to_owned(), arguments.note("content")?.into());
    let mut kinds = 0;
    for (name, shown) in KINDS {
        let text = arguments.optional(name, Arguments::note)?;
        kinds += usize::from(text.is_some());
        fields.insert(shown.to_owned(), text.is_some().into());
    }
    if kinds == 0 {
        refuse!("At least one kind of issue is needed");
    }
    fields.extend(attached(
        state,
        arguments,
        ["select-project", "select-backtest", ""],
    )?);
    if state.issues.len() >= limits::ISSUES {
        return Err(Refusal::full(limits::ISSUES, "issues of data"));
    }
    let id = state.next_number();
    state.issues.push(DataIssue { id, fields }.into());
    Reply::success(json!({ "discussionId": id }))
}

pub(crate) fn list_issues(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let status = arguments
        .optional("status", Arguments::text)?
        .unwrap_or("open");
    if !["open", "closed"].contains(&status) {
        return Err(Refusal::invalid("status", "open or closed"));
    }
    let ticker = arguments.optional("search", Arguments::text)?;
    let start = arguments
        .optional("start", Arguments::integer)?
        .unwrap_or(0);
    let end = arguments
        .optional("end", Arguments::integer)?
        .unwrap_or(ISSUES);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let (start, end) = range
        .filter(|(start, end)| start <= end)
        .ok_or_else(|| Refusal::because("start must be at least 0 and not more than end"))?;
    let fits = |issue: &&DataIssue| {
        ticker.is_none_or(|ticker| issue.fields.get("ticker") == Some(&Value::from(ticker)))
    };
    let issues = state.issues.iter().map(Kept::value);
    let open: Vec<&DataIssue> = issues.filter(fits).collect();
    let found = if status == "open" {
        open.as_slice()
    } else {
        &[]
    };
    let results: Vec<Value> = found
        .iter()
        .skip(start)
        .take(end.saturating_sub(start))
        .map(|issue| issue_json(issue))
        .collect();
    Reply::success(json!({
        "results": results,
        "resultsFound": found.len(),
        "openIssuesCount": open.len(),
        "closedIssuesCount": 0,
    }))
}

fn issue_json(issue: &DataIssue) -> Value {
    let mut shown = issue.fields.clone();
    for hidden in ["content", "select-project", "select-backtest"] {
        shown.remove(hidden);
    }
    for (name, value) in [
        ("discussionId", Value::from(issue.id)),
        ("status", "open".into()),
        ("reported", true.into()),
        ("subscribed", true.into()),
        ("userName", USER_NAME.into()),
    ] {
        shown.insert(name.to_owned(), value);
    }
    Value::Object(shown)
}

/// What a request attaches, by the names of its project, backtest and deployment: all of it has to exist.
fn attached(
    state: &State,
    arguments: &Arguments,
    [project_field, backtest_field, deployment_field]: [&str; 3],
) -> Result<Map<String, Value>, Refusal> {
    let mut attached = Map::new();
    let project = arguments.optional(project_field, Arguments::integer)?;
    let project = project.map(|id| state.project_with(id)).transpose()?;
    let project = project.map(|project| project.id);
    attached.extend(project.map(|id| (project_field.to_owned(), Value::from(id))));
    if let Some(id) = arguments.optional(backtest_field, Arguments::text)? {
        let mut backtests = state.backtests.iter();
        if !backtests.any(|backtest| backtest.id == id && Some(backtest.project_id) == project) {
            return Err(Refusal::not_found("Backtest", id));
        }
        attached.insert(backtest_field.to_owned(), id.into());
    }
    if let Some(id) = arguments.optional(deployment_field, Arguments::text)? {
        let mut deployments = state.deployments.iter();
        if !deployments.any(|it| it.id == id && Some(it.project_id) == project) {
            return Err(Refusal::not_found("Deployment", id));
        }
        attached.insert(deployment_field.to_owned(), id.into());
    }
    Ok(attached)
}
