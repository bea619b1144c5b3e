//! Reads the audit's files without the host that writes them, for each request that the record answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Error, Result};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use qchost_audit::{Disk, Files, Filter, Format, Kind};
use qchost_catalog::{Access, OPERATIONS};
use qchost_gate::{Why, actions, decisions, outcomes};

use super::audit::{
    AuditHead, AuditQuery, ExportAudit, ExportFormat, Head, Matches, OnLine, Query, ReadAudit,
    Source, TailAudit, Verified, VerifyAudit, WhyCall,
};
use crate::config::Period;
use crate::exit_status::{ErrorKind, Failed};

impl ReadAudit for AuditHead {
    type Rest = Head;

    fn read(&self, source: &Source, _: OnLine<'_>) -> Result<Head> {
        if let Some(head) = source.newest.clone() {
            return Ok(Head { head });
        }
        let report = qchost_audit::verify(&Disk, &source.folder, &source.key, None)?;
        let head = report.head.with_context(|| {
            format!(
                "no signed head in {}; see: qchost audit verify",
                source.folder.display()
            )
        })?;
        Ok(Head { head })
    }
}

impl ReadAudit for VerifyAudit {
    type Rest = Verified;

    fn read(&self, source: &Source, _: OnLine<'_>) -> Result<Verified> {
        let since = self.since.as_deref().map(str::trim);
        let report = qchost_audit::verify(&Disk, &source.folder, &source.key, since)?;
        let (mut sound, mut text) = (report.sound(), report.to_string());
        // If a record is damaged, it is unknown whether it is the newest.
        if let Some(why) = sound.then(|| source.reaches_recorded().err()).flatten() {
            sound = false;
            text.push('\n');
            text.push_str(&why);
        }
        Ok(Verified {
            report,
            sound,
            text,
        })
    }
}

impl ReadAudit for AuditQuery {
    type Rest = Matches;

    fn read(&self, source: &Source, on_line: OnLine<'_>) -> Result<Matches> {
        let filter = Filter {
            newest_first: !self.query.oldest_first,
            ..source.filter(&self.query)?
        };
        let mut found = 0_u64;
        for record in qchost_audit::query(disk(), &source.folder, filter)? {
            on_line(&record?.line)?;
            found += 1;
        }
        source.finding(&self.query, found)
    }
}

impl ReadAudit for WhyCall {
    type Rest = Why;

    fn read(&self, source: &Source, _: OnLine<'_>) -> Result<Why> {
        let call = &self.call;
        let why = qchost_gate::why(&disk(), &source.folder, call, source.texts)?;
        why.with_context(|| {
            format!(
                "the record has no call `{call}`, or retention removed it; find calls with: qchost audit query --json --limit 20"
            )
        })
    }
}

impl ReadAudit for TailAudit {
    type Rest = ();

    fn read(&self, source: &Source, on_line: OnLine<'_>) -> Result<()> {
        for record in qchost_audit::tail(&disk(), &source.folder, self.lines)? {
            on_line(&record.line)?;
        }
        Ok(())
    }

    fn follows(&self) -> bool {
        self.follow
    }
}

impl ReadAudit for ExportAudit {
    type Rest = Matches;

    fn read(&self, source: &Source, on_line: OnLine<'_>) -> Result<Matches> {
        let format = match self.format {
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Json => Format::Json,
            ExportFormat::Jsonl => Format::JsonLines,
        };
        let records = qchost_audit::query(disk(), &source.folder, source.filter(&self.query)?)?;
        let mut found = 0_u64;
        let records = records.inspect(|_| found += 1);
        let mut lines = Lines::new(on_line);
        let written = qchost_audit::export(records, format, &mut lines);
        lines.end()?;
        written?;
        source.finding(&self.query, found)
    }
}

fn disk() -> Arc<dyn Files> {
    Arc::new(Disk)
}

impl Source {
    /// The number of records, and the names in the query that occur in no record at all.
    fn finding(&self, query: &Query, found: u64) -> Result<Matches> {
        let mut unnamed = Vec::new();
        if found == 0 {
            for (what, name, only) in names(query) {
                if !self.holds(only)? {
                    unnamed.push(format!("the {what} `{name}`"));
                }
            }
        }
        Ok(Matches { found, unnamed })
    }

    /// Whether any record matches.
    fn holds(&self, filter: Filter) -> Result<bool> {
        let limit = Some(1);
        let filter = Filter { limit, ..filter };
        let mut records = qchost_audit::query(Arc::new(Disk), &self.folder, filter)?;
        Ok(records.next().transpose()?.is_some())
    }

    /// Checks a word that only the host chooses: an unknown one would find nothing, and look like an answer. `near` is what
    /// it may have been meant to be, and `known` says which there are.
    fn check(
        &self,
        option: &str,
        word: &str,
        words: &[&str],
        near: Option<&str>,
        known: &str,
        only: Filter,
    ) -> Result<()> {
        // Records of another version may have others.
        if words.contains(&word) || word.ends_with(" (denied)") || self.holds(only)? {
            return Ok(());
        }
        let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        Err(usage(format!(
            "{option} {word}: no record can have it{near}; {known}"
        )))
    }

    fn check_words(&self, query: &Query) -> Result<()> {
        if let Some(word) = &query.operation
            && !word.starts_with("raw/")
        {
            let names: Vec<_> = OPERATIONS.iter().map(|known| known.name).collect();
            let near = qchost_policy::nearest_operation(word);
            let only = Filter {
                operation: query.operation.clone(),
                ..Filter::default()
            };
            let option = "--operation";
            if let Some(known) = qchost_catalog::by_tool(word) {
                return Err(usage(format!(
                    "{option} {word}: that is a tool; its operation is `{}`",
                    known.name
                )));
            }
            let known = "list the operations: qchost tools";
            self.check(option, word, &names, near, known, only)?;
        }
        if let Some(word) = &query.what {
            let only = Filter {
                what: query.what.clone(),
                ..Filter::default()
            };
            let actions = actions();
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            let near = qchost_policy::nearest(word, actions.iter().copied());
            let known = format!("there are: {}", actions.join(", "));
            self.check("--what", word, &actions, near, &known, only)?;
        }
        Ok(())
    }

    /// The records of a query. A project given by name is also found by its id, since urgent calls of the host record
    /// nothing else.
    fn filter(&self, query: &Query) -> Result<Filter> {
        let mut filter = filter(query)?;
        self.check_words(query)?;
        let by_name = filter
            .project
            .as_ref()
            .filter(|it| it.parse::<u64>().is_err());
        if let Some(name) = by_name {
            let named = Filter {
                project: Some(name.clone()),
                ..Filter::default()
            };
            for record in qchost_audit::query(Arc::new(Disk), &self.folder, named)? {
                let record = record?;
                let project = record.summary().project;
                filter
                    .project_ids
                    .extend(project.and_then(|project| project.id));
            }
        }
        Ok(filter)
    }

    /// Checks that the audit reaches up to the head in the ledger: an older copy put in its place would verify by
    /// itself.
    fn reaches_recorded(&self) -> Result<(), String> {
        let recorded = match &self.recorded {
            Ok(Some(recorded)) => recorded,
            Ok(None) => return Ok(()),
            Err(why) => {
                return Err(format!(
                    "the newest head cannot be read from the database, so the record may be an older one: {why}"
                ));
            }
        };
        let compared = qchost_audit::verify(&Disk, &self.folder, &self.key, Some(recorded));
        let problem = match compared {
            Ok(report) => match report.problems.last() {
                Some(problem) if !report.sound() => problem.to_string(),
                _ => return Ok(()),
            },
            Err(error) => error.to_string(),
        };
        Err(format!(
            "the database knows a head that is not on this record, so an older record was put in its place: {problem}"
        ))
    }
}

/// The freely chosen names in a query, each with what it names and the filter that finds its records.
fn names(query: &Query) -> Vec<(&'static str, &str, Filter)> {
    let none = Filter::default;
    let mut names = Vec::new();
    macro_rules! put {
        ($($field:ident $what:literal),+) => {
            $(if let Some(name) = &query.$field {
                let only = Filter { $field: Some(name.clone()), ..none() };
                names.push(($what, name.as_str(), only));
            })+
        };
    }
    put!(
        account "account", plugin "plugin", project "project", person "person", grant "grant", guardrail "guardrail",
        call "call", approval "approval", permit "permit", invocation "invocation", digest "digest"
    );
    names
}

/// Checks for one of these words: an unknown one would find nothing, and look like an answer.
fn known<'a>(option: &str, word: Option<&String>, words: &[&'a str]) -> Result<Option<&'a str>> {
    let Some(word) = word else { return Ok(None) };
    let found = words.iter().find(|one| *one == word);
    found.copied().map(Some).ok_or_else(|| {
        let near = qchost_policy::nearest(word, words.iter().copied());
        let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        usage(format!(
            "{option} {word}: there is none of this name{near}; there are: {}",
            words.join(", ")
        ))
    })
}

/// The value of an option is wrong.
fn usage(message: String) -> Error {
    Failed::error(ErrorKind::Usage, message)
}

fn filter(query: &Query) -> Result<Filter> {
    let kinds = Kind::ALL.map(Kind::word);
    let kind = known("--kind", query.kind.as_ref(), &kinds)?;
    let kind = kind.and_then(Kind::parse);
    let accesses = Access::ALL.map(Access::word);
    let access = known("--access", query.access.as_ref(), &accesses)?;
    let decision = known("--decision", query.decision.as_ref(), &decisions())?;
    let outcome = known("--outcome", query.outcome.as_ref(), &outcomes())?;
    Ok(Filter {
        plugin: query.plugin.clone(),
        operation: query.operation.clone(),
        project: query.project.clone(),
        project_ids: BTreeSet::new(),
        account: query.account.clone(),
        decision: decision.map(str::to_owned),
        kind,
        access: access.map(str::to_owned),
        call: query.call.clone(),
        approval: query.approval.clone(),
        permit: query.permit.clone(),
        invocation: query.invocation.clone(),
        person: query.person.clone(),
        grant: query.grant.clone(),
        guardrail: query.guardrail.clone(),
        digest: query.digest.clone(),
        outcome: outcome.map(str::to_owned),
        what: query.what.clone(),
        from: query
            .from
            .as_deref()
            .map(|text| time("--from", text))
            .transpose()?,
        to: query
            .to
            .as_deref()
            .map(|text| time("--to", text))
            .transpose()?,
        limit: query.limit,
        newest_first: false,
    })
}

/// An instant, the beginning of a day in UTC, or a time before now.
fn time(option: &str, text: &str) -> Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<Date>() {
        return Ok(day.to_zoned(TimeZone::UTC)?.timestamp());
    }
    if let Ok(Period(ago)) = text.parse() {
        return Ok(Timestamp::now().checked_sub(ago)?);
    }
    Err(usage(format!(
        "{option} {text}: not a time; write 2026-01-31, 2026-01-31T09:30:00Z, or 24h for so long ago"
    )))
}

/// Passes on what is written, line by line.
struct Lines<'a> {
    on_line: OnLine<'a>,
    kept: Vec<u8>,
    failed: Option<anyhow::Error>,
}

impl<'a> Lines<'a> {
    fn new(on_line: OnLine<'a>) -> Self {
        Self {
            on_line,
            kept: Vec::new(),
            failed: None,
        }
    }

    /// Passes on an unterminated line; returns why a line was rejected.
    fn end(mut self) -> Result<()> {
        if !self.kept.is_empty() {
            let rest = std::mem::take(&mut self.kept);
            (self.on_line)(&String::from_utf8_lossy(&rest))?;
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl std::io::Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(at);
            self.kept.extend_from_slice(line);
            let whole = std::mem::take(&mut self.kept);
            if let Err(error) = (self.on_line)(&String::from_utf8_lossy(&whole)) {
                self.failed = Some(error);
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.kept.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn times_are_said_in_three_ways() {
        assert_eq!(
            time("--from", "2026-01-31").unwrap(),
            "2026-01-31T00:00:00Z".parse().unwrap()
        );
        assert_eq!(
            time("--from", "2026-01-31T09:30:00+01:00").unwrap(),
            "2026-01-31T08:30:00Z".parse().unwrap()
        );
        let day = time("--from", "24h").unwrap();
        let ago = Timestamp::now().duration_since(day);
        assert!((86_399..86_460).contains(&ago.as_secs()), "{ago}");
        for wrong in ["", "yesterday", "2026-13-01", "24"] {
            let error = time("--to", wrong).unwrap_err().to_string();
            assert!(error.contains("--to"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_word_that_no_record_has_is_an_error_with_those_that_there_are() {
        let word = || Some("intents".to_owned());
        let wrong = [
            (
                Query {
                    kind: word(),
                    ..Query::default()
                },
                "--kind intents",
                "intent, outcome",
            ),
            (
                Query {
                    decision: word(),
                    ..Query::default()
                },
                "--decision intents",
                "allowed, denied",
            ),
            (
                Query {
                    access: word(),
                    ..Query::default()
                },
                "--access intents",
                "write, destroy",
            ),
        ];
        for (query, option, known) in wrong {
            let error = filter(&query).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains(known), "{error}");
        }
        for kind in Kind::ALL {
            let kind = Some(kind.word().to_owned());
            let query = Query {
                kind: kind.clone(),
                ..Query::default()
            };
            assert_eq!(
                filter(&query)
                    .unwrap()
                    .kind
                    .map(|kind| kind.word().to_owned()),
                kind
            );
        }
    }

    #[test]
    fn lines_are_handed_over_however_they_are_written() {
        let mut seen = Vec::new();
        let mut take = |line: &str| {
            seen.push(line.to_owned());
            Ok(())
        };
        let mut lines = Lines::new(&mut take);
        for piece in ["a,b\nc", ",", "d\n\ne", "f"] {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        lines.end().unwrap();
        assert_eq!(seen, ["a,b", "c,d", "", "ef"]);

        let mut refuse = |_: &str| anyhow::bail!("full");
        let mut lines = Lines::new(&mut refuse);
        assert!(lines.write_all(b"a\n").is_err());
        assert_eq!(lines.end().unwrap_err().to_string(), "full");
    }
}
