//! Reading the audit: by filter, from the end, by call. Memory is bounded by the result.
//!
//! Reading does not verify; [`verify`](crate::verify) does.
//!
//! Invariant: a query returns an unreadable line as an error in its place, so that an incomplete result is never mistaken
//! for a complete one.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde_json::{Map, Value};

use crate::error::AuditError;
use crate::files::Files;
use crate::record::Kind;
use crate::segment::{self, LineEnd, Lines};

/// Maximum lines of [`tail`].
const MAX_TAIL: usize = 10_000;

/// Selects records that match all given criteria.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The plugin's name.
    pub plugin: Option<String>,
    /// The operation, such as `backtests/create-backtest`.
    pub operation: Option<String>,
    /// The project, by its id in digits or by its name.
    pub project: Option<String>,
    /// The ids of that project, for records without a project name.
    pub project_ids: BTreeSet<u64>,
    /// The decision, such as `denied`.
    pub decision: Option<String>,
    /// The kind of record.
    pub kind: Option<Kind>,
    /// The access class of the operation, such as `trade`.
    pub access: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The call: its own records, and the request for the approval that it needed.
    pub call: Option<String>,
    /// The approval, requested, decided or used.
    pub approval: Option<String>,
    /// The permit, given or used.
    pub permit: Option<String>,
    /// The invocation.
    pub invocation: Option<String>,
    /// The person, by user id in digits or by name.
    pub person: Option<String>,
    /// A grant that allowed it.
    pub grant: Option<String>,
    /// A guardrail that forbade it.
    pub guardrail: Option<String>,
    /// The digest of the component, the manifest, the guardrails or the configuration that it was decided under, or of
    /// one that was added or removed.
    pub digest: Option<String>,
    /// The outcome, such as `answered`.
    pub outcome: Option<String>,
    /// What a person did or what changed, such as `reload` or `manifest`.
    pub what: Option<String>,
    /// Not before this instant.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// Maximum number: the newest ones, or with oldest first the oldest.
    pub limit: Option<usize>,
    /// Whether the newest records come first.
    pub newest_first: bool,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        let since = |from: Timestamp| record.time().is_some_and(|time| time >= from);
        let before = |to: Timestamp| record.time().is_some_and(|time| time < to);
        self.kind.is_none_or(|kind| record.kind() == Some(kind))
            && self.from.is_none_or(since)
            && self.to.is_none_or(before)
            && self.fits_members(&record.summary())
    }

    fn fits_members(&self, found: &Summary<'_>) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        let holds = |wanted: &Option<String>, found: &[&str]| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| found.contains(&wanted))
        };
        let project = self.project.as_ref().is_none_or(|wanted| {
            let ProjectName { id, name } = found.project.unwrap_or_default();
            id.is_some_and(|id| id.to_string() == *wanted)
                || name == Some(wanted)
                || (name.is_none() && id.is_some_and(|id| self.project_ids.contains(&id)))
        });
        let person = self.person.as_ref().is_none_or(|wanted| {
            found.person.is_some_and(|uid| uid.to_string() == *wanted)
                || found.person_name == Some(wanted)
        });
        let digest = self.digest.as_deref();
        (is(&self.call, found.call) || is(&self.call, found.asked_by_call))
            && digest.is_none_or(|wanted| found.digests().any(|digest| digest == wanted))
            && holds(&self.grant, &found.grants)
            && holds(&self.guardrail, &found.policies)
            && person
            && is(&self.approval, found.approval)
            && is(&self.permit, found.permit)
            && is(&self.invocation, found.invocation)
            && is(&self.access, found.access)
            && is(&self.outcome, found.outcome)
            && is(&self.what, found.what)
            && is(&self.plugin, found.plugin)
            && is(&self.operation, found.operation)
            && is(&self.decision, found.decision)
            && is(&self.account, found.account)
            && project
    }
}

/// The members by which records are found and shown, whatever their kind and whichever version wrote them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the members of a record")]
pub struct Summary<'a> {
    pub call: Option<&'a str>,
    pub asked_by_call: Option<&'a str>,
    pub account: Option<&'a str>,
    pub plugin: Option<&'a str>,
    pub invocation: Option<&'a str>,
    /// The user id of a person.
    pub person: Option<u64>,
    pub person_name: Option<&'a str>,
    pub operation: Option<&'a str>,
    pub access: Option<&'a str>,
    /// What a person did, or what changed.
    pub what: Option<&'a str>,
    pub project: Option<ProjectName<'a>>,
    pub decision: Option<&'a str>,
    pub grants: Vec<&'a str>,
    /// The guardrails that forbade it.
    pub policies: Vec<&'a str>,
    pub approval: Option<&'a str>,
    pub permit: Option<&'a str>,
    pub outcome: Option<&'a str>,
    pub reason: Option<&'a str>,
    digest: Option<&'a str>,
    manifest: Option<&'a str>,
    manifest_pending: Option<&'a str>,
    guardrails: Option<&'a str>,
    configuration: Option<&'a str>,
    configuration_pending: Option<&'a str>,
    digest_before: Option<&'a str>,
    digest_after: Option<&'a str>,
}

/// A project, by its id, its name or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named like the members of a record")]
pub struct ProjectName<'a> {
    pub id: Option<u64>,
    pub name: Option<&'a str>,
}

impl<'a> Summary<'a> {
    /// The digests of what decided it, and of what was added or removed.
    pub fn digests(&self) -> impl Iterator<Item = &'a str> {
        let digests = [
            self.digest,
            self.manifest,
            self.manifest_pending,
            self.guardrails,
            self.configuration,
            self.configuration_pending,
            self.digest_before,
            self.digest_after,
        ];
        digests.into_iter().flatten()
    }
}

/// Reads members as a type that has a default for each. A member of another form is left out: an entry that does not fit
/// has digest and length in place of long members, and another version may write other forms.
pub fn read_members<'a, T: Deserialize<'a> + Default>(members: &'a Map<String, Value>) -> T {
    let read = T::deserialize(members).or_else(|_| {
        let all = members.iter().map(|(name, value)| (name.as_str(), value));
        let alone = |one: (&'a str, &'a Value)| MapDeserializer::new(iter::once(one));
        let fits = |one: &(&'a str, &'a Value)| T::deserialize(alone(*one)).is_ok();
        T::deserialize(MapDeserializer::new(all.filter(fits)))
    });
    read.unwrap_or_default()
}

/// A record as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The line without its newline.
    pub line: String,
    /// All its members.
    pub fields: Map<String, Value>,
}

impl Record {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn parse(line: String) -> Result<Self, serde_json::Error> {
        let fields = serde_json::from_str(&line)?;
        Ok(Self { line, fields })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// Its kind; `None` if this version does not know it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::parse(self.kind_word()?)
    }

    /// The word for its kind, known or not.
    #[must_use]
    pub fn kind_word(&self) -> Option<&str> {
        self.text("kind")
    }

    /// The call that it is about.
    #[must_use]
    pub fn call(&self) -> Option<&str> {
        self.text("call")
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        let sequence = self.fields.get("seq");
        sequence.and_then(Value::as_u64).unwrap_or_default()
    }

    /// When it was submitted.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time_text()?.parse().ok()
    }

    /// When it was submitted, as recorded.
    #[must_use]
    pub fn time_text(&self) -> Option<&str> {
        self.text("time")
    }

    /// The members by which it is found.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        read_members(&self.fields)
    }
}

/// The records of a folder that match a filter, read lazily: oldest first, or newest first, segment by segment.
#[derive(Debug)]
pub struct Query {
    files: Arc<dyn Files>,
    folder: PathBuf,
    filter: Filter,
    segments: VecDeque<u64>,
    /// The segment that may be written while it is read.
    newest: u64,
    lines: Option<(u64, Lines)>,
    left: usize,
    /// With newest first: the matching records of the segment read last, the newest at the end.
    held: VecDeque<Result<Record, AuditError>>,
}

/// Starts a query.
///
/// # Errors
/// The folder cannot be read.
pub fn query(files: Arc<dyn Files>, folder: &Path, filter: Filter) -> Result<Query, AuditError> {
    let segments = segment::list(&*files, folder)
        .map_err(AuditError::files("read the audit folder", folder))?;
    Ok(Query {
        files,
        folder: folder.to_owned(),
        left: filter.limit.unwrap_or(usize::MAX),
        filter,
        newest: segments.last().copied().unwrap_or_default(),
        segments: segments.into(),
        lines: None,
        held: VecDeque::new(),
    })
}

impl Query {
    /// The next record, matching or not.
    fn read(&mut self) -> Result<Option<Record>, AuditError> {
        loop {
            let Some((first, lines)) = &mut self.lines else {
                let Some(first) = self.segments.pop_front() else {
                    return Ok(None);
                };
                match Lines::open(&*self.files, &self.folder, first) {
                    Ok(lines) => self.lines = Some((first, lines)),
                    // Retention may have removed it meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let path = segment::path(&self.folder, first);
                        return Err(AuditError::files("read", &path)(error));
                    }
                }
                continue;
            };
            let path = segment::path(&self.folder, *first);
            match lines.advance().map_err(AuditError::files("read", &path))? {
                // The end of the last segment may be a line that is being written.
                Some(LineEnd::Torn) if *first == self.newest => self.lines = None,
                None => self.lines = None,
                Some(_) => return parse(*first, lines).map(Some),
            }
        }
    }
}

impl Query {
    /// Reads the newest remaining segment, and keeps its newest matching records.
    fn hold_segment(&mut self) -> bool {
        let Some(first) = self.segments.pop_back() else {
            return false;
        };
        let older = std::mem::replace(&mut self.segments, VecDeque::from([first]));
        loop {
            let read = self.read().transpose();
            let kept = match read {
                None => break,
                Some(Ok(record)) if !self.filter.fits(&record) => continue,
                Some(Ok(record)) => Ok(record),
                Some(Err(error @ AuditError::Broken { .. })) => Err(error),
                Some(Err(error)) => {
                    self.held.push_back(Err(error));
                    self.segments.clear();
                    return true;
                }
            };
            self.held.push_back(kept);
            if self.held.len() > self.left {
                self.held.pop_front();
            }
        }
        self.segments = older;
        true
    }

    fn newest(&mut self) -> Option<Result<Record, AuditError>> {
        while self.left > 0 {
            if let Some(record) = self.held.pop_back() {
                match &record {
                    Ok(_) => self.left -= 1,
                    Err(AuditError::Broken { .. }) => {}
                    // A file that cannot be read at all would fail forever.
                    Err(_) => self.left = 0,
                }
                return Some(record);
            }
            if !self.hold_segment() {
                break;
            }
        }
        None
    }
}

fn parse(segment: u64, lines: &Lines) -> Result<Record, AuditError> {
    let broken = |what: String| AuditError::Broken {
        segment: segment::name(segment),
        line: lines.number,
        sequence: (segment + lines.number).saturating_sub(1),
        what,
    };
    let line =
        String::from_utf8(lines.text().to_vec()).map_err(|error| broken(error.to_string()))?;
    Record::parse(line).map_err(|error| broken(error.to_string()))
}

impl Iterator for Query {
    type Item = Result<Record, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.filter.newest_first {
            return self.newest();
        }
        while self.left > 0 {
            match self.read().transpose()? {
                Ok(record) if !self.filter.fits(&record) => {}
                Ok(record) => {
                    self.left -= 1;
                    return Some(Ok(record));
                }
                Err(error) => {
                    // A file that cannot be read at all would fail forever.
                    if !matches!(error, AuditError::Broken { .. }) {
                        self.left = 0;
                    }
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The sequence number of the oldest kept record, by the name of its segment; `None` if there is none.
///
/// # Errors
/// The folder cannot be read.
pub fn oldest(files: &dyn Files, folder: &Path) -> Result<Option<u64>, AuditError> {
    let segments =
        segment::list(files, folder).map_err(AuditError::files("read the audit folder", folder))?;
    Ok(segments.first().copied())
}

/// The last records, oldest first; at most 10,000.
///
/// # Errors
/// The folder cannot be read, or a line in the segments that it reads.
pub fn tail(
    files: &Arc<dyn Files>,
    folder: &Path,
    count: usize,
) -> Result<Vec<Record>, AuditError> {
    let count = count.min(MAX_TAIL);
    let whole = query(Arc::clone(files), folder, Filter::default())?;
    let mut segments = whole.segments;
    let mut tail: VecDeque<Record> = VecDeque::new();
    while tail.len() < count
        && let Some(first) = segments.pop_back()
    {
        let mut one = query(Arc::clone(files), folder, Filter::default())?;
        one.segments = [first].into();
        let mut of_segment: VecDeque<Record> = VecDeque::new();
        for record in one {
            of_segment.push_back(record?);
            if of_segment.len() + tail.len() > count {
                of_segment.pop_front();
            }
        }
        of_segment.append(&mut tail);
        tail = of_segment;
    }
    Ok(tail.into())
}

/// The records of one kind after a sequence number, oldest first, and the sequence number of the last record of any
/// kind, for comparison with another store. An unreadable line is skipped with a warning: opening or verifying the
/// audit reports the problem.
///
/// # Errors
/// The folder cannot be read.
pub fn since(
    files: &Arc<dyn Files>,
    folder: &Path,
    kind: Kind,
    after: u64,
) -> Result<(Vec<Record>, u64), AuditError> {
    let segments = segment::list(&**files, folder)
        .map_err(AuditError::files("read the audit folder", folder))?;
    let begin = segment::holding(&segments, after.saturating_add(1));
    let marker = format!("\"kind\":\"{}\"", kind.word());
    let (mut records, mut last) = (Vec::new(), after);
    for first in segments {
        if begin.is_some_and(|begin| first < begin) {
            continue;
        }
        let path = segment::path(folder, first);
        let mut lines = match Lines::open(&**files, folder, first) {
            Ok(lines) => lines,
            // Retention may have removed it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(AuditError::files("read", &path)(error)),
        };
        while let Some(ending) = lines.advance().map_err(AuditError::files("read", &path))? {
            let sequence = (first + lines.number).saturating_sub(1);
            if sequence <= after || ending == LineEnd::Torn {
                continue;
            }
            last = sequence;
            // Most records are of other kinds, and need no parsing.
            let wanted = std::str::from_utf8(lines.text()).is_ok_and(|text| text.contains(&marker));
            if !wanted {
                continue;
            }
            match parse(first, &lines) {
                Ok(record) if record.kind() == Some(kind) => records.push(record),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a record of the audit is left out"),
            }
        }
    }
    Ok((records, last))
}

/// The records of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// Its intent.
    pub intent: Option<Record>,
    /// Its outcome.
    pub outcome: Option<Record>,
}

/// The records of some calls, none of which began before `since`, for comparison with another store. A call without
/// records is omitted.
///
/// # Errors
/// The folder cannot be read, or a line in the segments that it reads.
pub fn trace(
    files: &Arc<dyn Files>,
    folder: &Path,
    calls: &HashSet<String>,
    since: Timestamp,
) -> Result<HashMap<String, Trace>, AuditError> {
    let mut segments = query(Arc::clone(files), folder, Filter::default())?.segments;
    let mut traces: HashMap<String, Trace> = HashMap::new();
    while let Some(first) = segments.pop_back() {
        let mut one = query(Arc::clone(files), folder, Filter::default())?;
        one.segments = [first].into();
        let mut older = false;
        for record in one {
            let record = record?;
            older |= record.time().is_some_and(|time| time < since);
            let Some(call) = record.call().filter(|call| calls.contains(*call)) else {
                continue;
            };
            let trace = traces.entry(call.to_owned()).or_default();
            match record.kind() {
                Some(Kind::Intent) => trace.intent = Some(record),
                Some(Kind::Outcome) => trace.outcome = Some(record),
                _ => {}
            }
        }
        if older {
            break;
        }
    }
    traces.retain(|_, trace| *trace != Trace::default());
    Ok(traces)
}
