//! What an approver is shown besides the view: the contents of the call, and what a deployment would run.
//!
//! It is produced on request of the approver rather than when the plugin calls: off the serving threads, with a
//! deadline, and a few at a time.
//!
//! Invariant: what cannot be shown is reported as unknown, and what is left out is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::host_calls::READ_FILE;
use qchost_catalog::{Effect, Failure, by_name};
use qchost_ledger::{Approval, ApprovalKind, Ledger, LedgerError};
use qchost_scope::Reader as _;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::approval_scope::CallScope;
use crate::clock::now;
use crate::difference::{Bounds, MAX_LINE, Shown, difference, excerpt};
use crate::proposal::Changed;
use crate::reads::HostReader;
use crate::sources::Files;

/// Maximum bytes shown of one approval at once.
const MAX_SHOWN: usize = 64 << 10;
/// Maximum bytes of all pages of a changed file.
const MAX_PAGED: usize = 32 << 20;
/// Time limit for producing it.
const SHOW_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for reading the current file.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of approvals whose contents are produced at a time.
const MAX_CONCURRENT: usize = 2;
/// Maximum number of arguments shown individually.
const MAX_ARGUMENTS: usize = 50;
/// Maximum bytes shown of an argument's name.
const MAX_NAME: usize = 200;
/// Stands for the name of a changed file in its difference.
const CHANGED: &str = "what is in force (-), what the files say (+)";

/// Shows approvals.
pub struct ApprovalViewer {
    ledger: Ledger,
    reads: Arc<HostReader>,
    /// Limits how many approvals have their contents produced at a time.
    concurrency: Semaphore,
}

impl ApprovalViewer {
    pub(crate) fn new(ledger: Ledger, reads: Arc<HostReader>) -> Self {
        Self {
            ledger,
            reads,
            concurrency: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// An approval, with the contents of its call. A changed file can be seen completely, one page at a time; pages
    /// count from 1.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn show(
        &self,
        id: &str,
        page: u32,
    ) -> Result<Option<(Approval, Value)>, LedgerError> {
        // Never closed.
        let _guard = self.concurrency.acquire().await.ok();
        let ledger = &self.ledger;
        let Some(approval) = ledger.approval(id, now()).await? else {
            return Ok(None);
        };
        let mut shown = Map::new();
        if let Some(hash) = &approval.source {
            shown.insert(
                "source".to_owned(),
                self.show_source(&approval, hash).await?,
            );
        }
        if let Some(contents) = ledger.approval_contents(id).await? {
            let (name, contents) = match approval.kind {
                ApprovalKind::Change => ("change", show_change(contents, page).await),
                _ => ("arguments", self.show_arguments(&approval, contents).await),
            };
            shown.insert(name.to_owned(), contents);
        }
        Ok(Some((approval, Value::Object(shown))))
    }

    /// What a deployment would run, as a difference to what was approved last.
    async fn show_source(&self, approval: &Approval, hash: &str) -> Result<Value, LedgerError> {
        let ledger = &self.ledger;
        let Some(files) = ledger.source(hash).await? else {
            return Ok(json!({
                "hash": hash,
                "unknown": "the files of this source are not kept any more, so what would run cannot be shown",
            }));
        };
        let approved = match CallScope::of(approval).project {
            Some(project) => {
                let account = &approval.binding.account;
                ledger.approved_source(account, project).await?
            }
            None => None,
        };
        let (former, note) = match &approved {
            None => (
                Files::new(),
                Some("nothing of this project was approved before".to_owned()),
            ),
            Some(approved) => match ledger.source(approved).await? {
                Some(former) => (former, None),
                None => (
                    Files::new(),
                    Some(format!(
                        "the source that was approved last ({approved}) is not kept any more, so what changed since is \
                         unknown: all of it is shown as new"
                    )),
                ),
            },
        };
        let unchanged = approved.as_deref() == Some(hash);
        let shown = aside(move |bounds| difference(&former, &files, bounds)).await;
        Ok(json!({
            "hash": hash,
            "last-approved": approved,
            "note": note,
            "unchanged": unchanged,
            "difference": shown.text,
            "not-shown": shown.left_out,
        }))
    }

    /// The arguments that the view shows only as a digest.
    async fn show_arguments(&self, approval: &Approval, arguments: String) -> Value {
        let parsed: Map<String, Value> = serde_json::from_str(&arguments).unwrap_or_default();
        let effect = by_name(&approval.binding.operation).and_then(|operation| operation.effect);
        let has_file = matches!(effect, Some(Effect::CreatesFile | Effect::ReplacesFile));
        let text = |name: &str| parsed.get(name).and_then(Value::as_str);
        let content = text("content").filter(|_| has_file);
        let Some(content) = content else {
            let shown = aside(move |bounds| listed(&parsed, bounds)).await;
            return json!({ "contents": shown.text, "not-shown": shown.left_out });
        };
        let name = text("name").unwrap_or_default().to_owned();
        // A new file is shown as a difference to an empty one.
        let (former, note) = if effect == Some(Effect::CreatesFile) {
            (None, None)
        } else {
            match self
                .current_file(approval, parsed.get("projectId"), &name)
                .await
            {
                Ok(former) => (former, None),
                Err(failure) => (
                    None,
                    Some(format!(
                        "the file as it is now cannot be read, so what changes is unknown, and all of it is shown as \
                         new: {failure}"
                    )),
                ),
            }
        };
        let files = vec![(name.clone(), content.to_owned())];
        let former: Files = former
            .into_iter()
            .map(|former| (name.clone(), former))
            .collect();
        let shown = aside(move |bounds| difference(&former, &files, bounds)).await;
        json!({ "file": name, "note": note, "difference": shown.text, "not-shown": shown.left_out })
    }

    async fn current_file(
        &self,
        approval: &Approval,
        project: Option<&Value>,
        name: &str,
    ) -> Result<Option<String>, Failure> {
        let account = &approval.binding.account;
        let reads = self.reads.for_host(account, READ_TIMEOUT);
        let arguments = Map::from_iter([
            ("projectId".to_owned(), project.cloned().unwrap_or_default()),
            ("name".to_owned(), name.into()),
        ]);
        let read = tokio::time::timeout(READ_TIMEOUT, reads.read(READ_FILE, arguments)).await;
        let answer = read.unwrap_or(Err(Failure::TimedOut {
            after: READ_TIMEOUT,
        }))?;
        let files = READ_FILE.select(answer);
        let files = files.as_ref().and_then(Value::as_array);
        let is_it = |file: &&Value| file.get("name").and_then(Value::as_str) == Some(name);
        let file = files.and_then(|files| files.iter().find(is_it));
        let content = file.and_then(|file| file.get("content")?.as_str());
        content
            .map(|content| Some(content.to_owned()))
            .ok_or_else(|| {
                Failure::UnexpectedResponse(
                    "the answer does not have the file's content".to_owned(),
                )
            })
    }
}

/// One page of all changes in a file.
async fn show_change(contents: String, page: u32) -> Value {
    let made = aside(move |bounds| {
        let changed: Changed = serde_json::from_str(&contents).unwrap_or_default();
        let mut text = String::new();
        for (name, lines) in [("gains", &changed.gains), ("changes", &changed.changes)] {
            if !lines.is_empty() {
                text.push_str(&format!("all {name}:\n{}\n\n", lines.join("\n")));
            }
        }
        let file = |text: String| [(CHANGED.to_owned(), text)];
        let whole = Bounds {
            bytes: MAX_PAGED,
            line: MAX_PAGED,
            ..bounds
        };
        let mut shown = difference(&file(changed.former), &file(changed.now), whole);
        shown.text.insert_str(0, &text);
        shown
    })
    .await;
    let pages = pages(&made.text);
    let wanted = usize::try_from(page).unwrap_or(usize::MAX);
    let at = wanted.clamp(1, pages.len().max(1));
    let text = pages.get(at.saturating_sub(1)).copied();
    let more = pages.len().saturating_sub(at);
    let more = (more > 0).then(|| format!("{more} more pages (--page {})", at.saturating_add(1)));
    let left_out: Vec<String> = made.left_out.into_iter().chain(more).collect();
    json!({
        "page": format!("{at} of {}", pages.len().max(1)),
        "difference": text.unwrap_or_default(),
        "not-shown": (!left_out.is_empty()).then(|| left_out.join("; ")),
    })
}

/// Splits a text into parts of bounded length, at line ends unless a line is longer than that.
fn pages(mut text: &str) -> Vec<&str> {
    let mut pages = Vec::new();
    while !text.is_empty() {
        let end = text.floor_char_boundary(MAX_SHOWN);
        let end = match text.get(..end).and_then(|part| part.rfind('\n')) {
            Some(line) if end < text.len() => line.saturating_add(1),
            _ => end,
        };
        let (page, rest) = text.split_at(end);
        pages.push(page);
        text = rest;
    }
    pages
}

/// Produces something to be shown on a thread that may block.
async fn aside(make: impl FnOnce(Bounds) -> Shown + Send + 'static) -> Shown {
    let bounds = Bounds {
        bytes: MAX_SHOWN,
        line: MAX_LINE,
        deadline: Instant::now() + SHOW_TIMEOUT,
    };
    let made = tokio::task::spawn_blocking(move || make(bounds)).await;
    made.unwrap_or_else(|_| Shown {
        text: String::new(),
        left_out: Some("all of it: the host failed to make it".to_owned()),
    })
}

/// Lists arguments individually, long texts verbatim.
fn listed(arguments: &Map<String, Value>, bounds: Bounds) -> Shown {
    let mut all = Shown::default();
    let mut left_out = Vec::new();
    for (name, value) in arguments.iter().take(MAX_ARGUMENTS) {
        let text = match value {
            Value::String(text) => text.clone(),
            other => serde_json::to_string_pretty(other).unwrap_or_default(),
        };
        let short: String = name.chars().take(MAX_NAME).collect();
        let left = bounds
            .bytes
            .saturating_sub(all.text.len())
            .saturating_sub(short.len());
        let shown = excerpt(
            &text,
            Bounds {
                bytes: left,
                ..bounds
            },
        );
        all.text.push_str(&format!("{short}:\n{}", shown.text));
        if let Some(more) = shown.left_out {
            left_out.push(format!("of {short}, {more}"));
        }
    }
    let more = arguments.len().saturating_sub(MAX_ARGUMENTS);
    if more > 0 {
        left_out.push(format!("{more} more arguments"));
    }
    all.left_out = (!left_out.is_empty()).then(|| left_out.join("; "));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_the_whole_text_and_end_with_lines() {
        let line = |at: usize| format!("{at} {}\n", "ä".repeat(at % 700));
        let lines: String = (0..1_000).map(line).collect();
        let long = format!("a\n{}\nb", "ä".repeat(MAX_SHOWN));
        for (text, whole_lines) in [(lines, true), (long, false), (String::new(), true)] {
            let pages = pages(&text);
            assert_eq!(pages.concat(), text);
            assert!(pages.iter().all(|page| page.len() <= MAX_SHOWN));
            assert!(!whole_lines || pages.iter().all(|page| page.ends_with('\n')));
        }
    }

    #[test]
    fn arguments_are_shown_within_their_bounds() {
        let bounds = Bounds {
            bytes: MAX_SHOWN,
            line: MAX_LINE,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let of = |arguments: Value| listed(arguments.as_object().unwrap(), bounds);
        let shown = of(json!({ "patch": "--- a\n+++ b\n", "n": { "x": 1 } }));
        assert_eq!(shown.text, "patch:\n--- a\n+++ b\nn:\n{\n  \"x\": 1\n}\n");
        assert_eq!(shown.left_out, None);
        let many: Map<_, _> = (0..2_000)
            .map(|n| ("n".repeat(n), json!("x".repeat(2_000))))
            .collect();
        let shown = listed(&many, bounds);
        assert!(shown.text.len() < 2 * MAX_SHOWN, "{}", shown.text.len());
        let left_out = shown.left_out.unwrap();
        assert!(left_out.contains("1950 more arguments"), "{left_out}");
        assert!(left_out.len() < 32 << 10, "{}", left_out.len());
    }
}
