//! `qchost audit`: the record of what was done.
//!
//! A running host answers from what it has written; without one the files themselves are read, and nothing is opened,
//! repaired or added: an audit that a host cannot start with can still be verified.

mod files;
mod show;

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::unistd::geteuid;
use qchost_ledger::Ledger;
use qchost_policy::{People, Person};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::args::Audit;
use crate::config::Config;
use crate::control::{self, AuditRequest, Reports, Request, Route};
use crate::host::{Host, stranger};
use crate::keys::{self, Key};
use crate::output::{Output, words};

/// Carries out the verb.
pub async fn run(route: &Route, verb: Audit, output: Output) -> Result<()> {
    let request = match verb {
        Audit::Reconcile { accept } => return reconcile(route, accept, output).await,
        Audit::Head => AuditRequest::Head,
        Audit::Verify { since } => AuditRequest::Verify { since },
        Audit::Tail { lines, follow } => AuditRequest::Tail { lines, follow },
        Audit::Query { query } => AuditRequest::Query(query),
        Audit::Why { call } => AuditRequest::Why { call },
        Audit::Export { format, query } => AuditRequest::Export { format, query },
    };
    let mut shown = show::Shown::new(&request, output);
    let answer = {
        let mut on_line = |line: &str| shown.line(line);
        let asked = Request::Audit(request.clone());
        match control::ask_running(route, asked, output, &mut on_line).await? {
            Some(answer) => answer,
            None => {
                let config = route.config().map_err(|error| route.none_runs(&error))?;
                ensure!(
                    route.names_socket().is_none(),
                    route.none_runs(&anyhow!("nothing was read"))
                );
                from_files(config, request.clone(), &mut on_line)?
            }
        }
    };
    shown.end()?;
    match request {
        AuditRequest::Head => output.result(&answer, |head| crate::verbs::cell(head, "head")),
        AuditRequest::Verify { .. } => {
            output.result(&answer, show::report)?;
            ensure!(
                answer.get("sound") == Some(&Value::Bool(true)),
                "the record is not whole; keep the data folder as it is, and compare it with a backup"
            );
            Ok(())
        }
        AuditRequest::Why { .. } => output.result(&answer, show::why),
        AuditRequest::Query(_) | AuditRequest::Export { .. } if !output.json => {
            if let Some(words) = show::nothing_found(&answer) {
                output.note(&words);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Answers from the files, if no host runs.
fn from_files(
    config: &Config,
    request: AuditRequest,
    on_line: &mut (dyn FnMut(&str) -> Result<()> + Send),
) -> Result<Value> {
    let uid = geteuid().as_raw();
    let people = People::new(config.persons(), &config.guardrails()?)?;
    let person = people.by_uid(uid).with_context(|| match config.data() {
        Ok(data) => stranger(uid, &data, None),
        Err(error) => words(&error),
    })?;
    let decision = people.decide(person, qchost_policy::Verb::ReadAudit, None);
    if let Some(denial) = decision.denial {
        bail!("denied: {}", denial.reason);
    }
    ensure!(
        !matches!(request, AuditRequest::Tail { follow: true, .. }),
        "no host runs, so nothing is added to the record; start one (qchost run), or leave --follow out"
    );
    let data = config.data()?;
    let folder = data.join("audit");
    ensure!(
        folder.is_dir(),
        "there is no record in {} yet; no host ran there",
        data.display()
    );
    let source = files::Source {
        folder,
        key: Key::read(&keys::path(&data))?.audit()?,
        texts: person.reads_texts(),
        recorded: Ledger::recorded_head(&data.join("state.db")).map_err(|error| error.to_string()),
    };
    source.answer(&request, on_line)
}

/// Answers from the audit of a host.
pub async fn by_host(
    host: &Host,
    person: &Person,
    request: AuditRequest,
    reports: &Reports,
) -> Result<Value> {
    if matches!(request, AuditRequest::Head) {
        host.gate.audit().flush().await?;
        return Ok(json!({ "head": host.gate.audit().head() }));
    }
    let coming = match request {
        AuditRequest::Tail { follow: true, .. } => Some(host.gate.audit().follow()),
        _ => None,
    };
    // A call of a moment ago may not be written yet.
    host.gate.audit().flush().await?;
    let source = files::Source {
        folder: host.data.join("audit"),
        key: host.key.audit()?,
        texts: person.reads_texts(),
        recorded: Ok(Some(host.gate.audit().head())),
    };
    let (reports, to) = (reports.clone(), request);
    let runtime = Handle::current();
    // Reading the audit and redacting it must not block the thread that halts; neither must new records.
    let reading = tokio::task::spawn_blocking(move || {
        let mut last = 0;
        let answer = source.answer(&to, &mut |line| {
            last = files::sequence(line).unwrap_or(last);
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
            Ok(line) if !caught_up && files::sequence(&line).is_some_and(|one| one <= last) => {}
            Ok(line) => {
                caught_up = true;
                ensure!(
                    reports.line(line.to_string()).await,
                    "the client reads no more"
                );
            }
            Err(RecvError::Lagged(missed)) => bail!(
                "{missed} records came faster than they were read; read them with: qchost audit query"
            ),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Settles calls with unknown outcome by reading QuantConnect.
pub async fn reconcile_by_host(host: &Host, person: &Person, accept: &[String]) -> Result<Value> {
    let found = host.gate.reconcile(person, accept).await?;
    Ok(serde_json::to_value(found)?)
}

async fn reconcile(route: &Route, accept: Vec<String>, output: Output) -> Result<()> {
    let found = control::perform(route, Request::Reconcile { accept }, output).await?;
    output.result(&found, show::reconciled)?;
    let open = found
        .as_array()
        .into_iter()
        .flatten()
        .filter(|call| call.get("finding").is_none_or(|finding| finding == "open"))
        .count();
    ensure!(
        open == 0,
        "{open} calls are still without an outcome, see above; look at them on QuantConnect's site"
    );
    Ok(())
}
