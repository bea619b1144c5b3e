//! The record of what was done.
//!
//! A running host answers from what it has written; without one the files themselves are read, and nothing is opened,
//! repaired or added: an audit that a host cannot start with can still be verified.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use qchost_audit::Record;
use qchost_gate::Reconciled;
use qchost_policy::{Person, Right};
use schemars::JsonSchema;
use secrecy::SecretSlice;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::rules::{Class, Handler, Rules};
use crate::host::Host;
use crate::reports::Reports;

/// Receives the lines of a result.
pub type OnLine<'a> = &'a mut (dyn FnMut(&str) -> Result<()> + Send);

/// The location of the audit, and the key that its heads are signed with.
pub struct Source {
    pub folder: PathBuf,
    pub key: SecretSlice<u8>,
    /// Whether the client may read the texts that decided calls.
    pub texts: bool,
    /// The newest head, if the host that writes the audit knows it.
    pub newest: Option<String>,
    /// The newest head that the ledger has, or why it cannot be read: the audit must reach up to it.
    pub recorded: Result<Option<String>, String>,
}

/// A request that is answered by reading the record.
pub trait ReadAudit: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The rest of the answer, besides the lines.
    type Rest: Serialize + DeserializeOwned + Send + 'static;

    /// Answers from the files; lines go to `on_line` one by one, in order. Blocks.
    fn read(&self, source: &Source, on_line: OnLine<'_>) -> Result<Self::Rest>;

    /// Whether new records follow, until the client disconnects.
    fn follows(&self) -> bool {
        false
    }
}

/// Asks for the signed head.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {}

/// The signed head.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub head: String,
}

/// Verifies the record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyAudit {
    /// A head that it must reach back to.
    pub since: Option<String>,
}

/// The result of verifying.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    #[serde(flatten)]
    pub report: qchost_audit::Report,
    /// Whether the record is whole.
    pub sound: bool,
    /// The result in words.
    pub text: String,
}

/// Asks for records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    pub query: Box<Query>,
}

/// What was found, besides the records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matches {
    /// The number of records.
    pub found: u64,
    /// The names in the query that occur in no record at all, with what they name.
    pub unnamed: Vec<String>,
}

/// Asks why a call was decided as it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyCall {
    pub call: String,
}

/// Asks for the last records, and optionally new ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailAudit {
    /// The number of records.
    pub lines: usize,
    /// Whether to wait for new ones.
    pub follow: bool,
}

/// Asks for records for other programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportAudit {
    pub format: ExportFormat,
    pub query: Box<Query>,
}

/// Settles calls with unknown outcome by reading QuantConnect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Calls that may be sent again although their outcome stays unknown.
    pub accept: Vec<String>,
}

/// Which records.
#[derive(Debug, Clone, Default, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
#[group(skip)]
pub struct Query {
    /// Of this plugin.
    #[arg(long)]
    pub plugin: Option<String>,
    /// Of this operation: `backtests/create-backtest`.
    #[arg(long)]
    pub operation: Option<String>,
    /// Of this project, by its id or name.
    #[arg(long)]
    pub project: Option<String>,
    /// Of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// With this decision: `allowed`, `denied` …
    #[arg(long)]
    pub decision: Option<String>,
    /// Of this kind: `intent`, `outcome`, `denied`, `approval`, `change`, `halt` …
    #[arg(long)]
    pub kind: Option<String>,
    /// Of operations of this class: `read`, `write`, `destroy`, `trade`, `reduce`.
    #[arg(long)]
    pub access: Option<String>,
    /// Of this call, with the request for its approval.
    #[arg(long)]
    pub call: Option<String>,
    /// About this approval: asked for, decided, used.
    #[arg(long)]
    pub approval: Option<String>,
    /// About this permit: given, used.
    #[arg(long)]
    pub permit: Option<String>,
    /// Of this invocation.
    #[arg(long)]
    pub invocation: Option<String>,
    /// Of this person, by user id or name.
    #[arg(long)]
    pub person: Option<String>,
    /// Allowed by this grant.
    #[arg(long)]
    pub grant: Option<String>,
    /// Forbidden by this guardrail.
    #[arg(long)]
    pub guardrail: Option<String>,
    /// Decided under this manifest, guardrails, configuration or component, or a change from or to it: `sha256:…`.
    #[arg(long)]
    pub digest: Option<String>,
    /// That ended so: `answered`, `rejected`, `timed-out` …
    #[arg(long)]
    pub outcome: Option<String>,
    /// What a person did or what changed: `reload`, `approve`, `manifest`, `people` …
    #[arg(long)]
    pub what: Option<String>,
    /// Not before: `2026-01-31`, `2026-01-31T09:30:00Z`, or so long ago: `24h`; --since is the same.
    #[arg(long, alias = "since", value_name = "TIME")]
    pub from: Option<String>,
    /// Before; as --from. --until is the same.
    #[arg(long, alias = "until", value_name = "TIME")]
    pub to: Option<String>,
    /// At most this many: the newest, or with --oldest-first the oldest.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The oldest first; an export always is.
    #[arg(long)]
    #[serde(default)]
    pub oldest_first: bool,
}

/// What records are exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// A table for spreadsheets, with a header.
    Csv,
    /// One array.
    Json,
    /// A record a line, exactly as recorded.
    Jsonl,
}

impl<R: ReadAudit> Handler for R {
    type Answer = R::Rest;
    const RULES: Rules = Rules {
        class: Class::Read,
        ..Rules::reads(Right::ReadAudit)
    };

    async fn handle(self, host: &Host, person: &Person, reports: &Reports) -> Result<R::Rest> {
        let audit = &host.gate.audit;
        let coming = self.follows().then(|| audit.follow());
        // A call of a moment ago may not be written yet.
        audit.flush().await?;
        let source = Source {
            folder: host.data.join("audit"),
            key: host.key.audit()?,
            texts: person.reads_texts(),
            newest: Some(audit.head()),
            recorded: Ok(Some(audit.head())),
        };
        let reports = reports.clone();
        let runtime = Handle::current();
        // Reading the audit and redacting it must not block the thread that halts; neither must new records.
        let reading = tokio::task::spawn_blocking(move || {
            let mut last = 0;
            let answer = self.read(&source, &mut |line| {
                last = sequence(line).unwrap_or(last);
                ensure!(
                    reports.line_blocking(line.to_owned()),
                    "the client reads no more"
                );
                Ok(())
            })?;
            if let Some(coming) = coming {
                runtime.block_on(follow(coming, last, &reports))?;
            }
            Ok(answer)
        });
        reading.await.context("reading the record failed")?
    }
}

/// Passes on the records after the last one that was read, until the client disconnects or the host shuts down.
async fn follow(mut coming: Receiver<Arc<str>>, last: u64, reports: &Reports) -> Result<()> {
    let mut caught_up = false;
    loop {
        let came = tokio::select! {
            came = coming.recv() => came,
            () = reports.gone() => return Ok(()),
        };
        match came {
            // Records between subscribing and reading are in both.
            Ok(line) if !caught_up && sequence(&line).is_some_and(|one| one <= last) => {}
            Ok(line) => {
                caught_up = true;
                ensure!(
                    reports.line(line.to_string()).await,
                    "the client reads no more"
                );
            }
            Err(RecvError::Lagged(missed)) => bail!(
                "{missed} of the records came faster than they were read; read them with: qchost audit query"
            ),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// The sequence number of a record, read from its line.
fn sequence(line: &str) -> Option<u64> {
    let record = Record::parse(line.to_owned()).ok()?;
    Some(record.sequence())
}

impl Handler for Reconcile {
    type Answer = Vec<Reconciled>;
    const RULES: Rules = Rules::acts(Right::Reconcile, "qchost audit query --limit 20");

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<Vec<Reconciled>> {
        Ok(host.gate.reconciler.reconcile(person, &self.accept).await?)
    }
}
