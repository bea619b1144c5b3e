//! `qchost audit`: the record of what was done, read by the running host, or from its files if none runs.

mod show;

use anyhow::{Result, anyhow, ensure};
use nix::unistd::geteuid;
use qchost_gate::Finding;
use qchost_ledger::Ledger;
use qchost_policy::People;

use self::show::{Form, RecordPrinter};
use crate::args::Audit;
use crate::config::Config;
use crate::control::{self, Route};
use crate::data_folder::check_version;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::stranger;
use crate::keys::{self, Key};
use crate::output::{Output, counted, is_or_are};
use crate::requests::{
    AuditHead, AuditQuery, ExportAudit, Matches, OnLine, ReadAudit, Reconcile, Request, Source,
    TailAudit, VerifyAudit, WhyCall,
};
use crate::terminal;

/// Carries out the verb.
pub async fn run(route: &Route, verb: Audit, output: Output) -> Result<()> {
    let raw_or = |form| if output.json { Form::Raw } else { form };
    match verb {
        Audit::Reconcile { accept } => reconcile(route, accept, output).await,
        Audit::Head => {
            let head = read(route, AuditHead {}, Form::Raw, output).await?;
            output.result(&head, |head| terminal::line(&head.head))
        }
        Audit::Verify { since } => {
            let verified = read(route, VerifyAudit { since }, Form::Raw, output).await?;
            output.result(&verified, show::report)?;
            ensure!(
                verified.sound,
                "the record is not whole; keep the data folder as it is, and compare it with a backup"
            );
            Ok(())
        }
        Audit::Tail { lines, follow } => {
            // The widths of a table are not known before its end.
            let form = if follow { Form::Columns } else { Form::Table };
            read(route, TailAudit { lines, follow }, raw_or(form), output).await
        }
        Audit::Query { query } => {
            let found = read(route, AuditQuery { query }, raw_or(Form::Table), output).await?;
            note_nothing(&found, output);
            Ok(())
        }
        Audit::Why { call } => {
            let why = read(route, WhyCall { call }, Form::Raw, output).await?;
            output.result(&why, show::why)
        }
        Audit::Export { format, query } => {
            let found = read(route, ExportAudit { format, query }, Form::Raw, output).await?;
            note_nothing(&found, output);
            Ok(())
        }
    }
}

/// Says if nothing was found; the lines of an answer in JSON say it by themselves.
fn note_nothing(found: &Matches, output: Output) {
    if let Some(words) = show::nothing_found(found)
        && !output.json
    {
        output.note(&words);
    }
}

/// Shows the lines of a result; returns the rest of it.
async fn read<R: ReadAudit + Clone + Into<Request>>(
    route: &Route,
    request: R,
    form: Form,
    output: Output,
) -> Result<R::Rest> {
    let mut shown = RecordPrinter::new(form);
    let answer = {
        let mut on_line = |line: &str| shown.line(line);
        match control::perform_lines(route, request.clone(), output, &mut on_line).await? {
            Some(answer) => answer,
            None => {
                let config = route.config().map_err(|error| route.none_runs(&error))?;
                ensure!(
                    route.names_socket().is_none(),
                    route.none_runs(&anyhow!("nothing was read"))
                );
                from_files(config, &request, &mut on_line)?
            }
        }
    };
    shown.end()?;
    Ok(answer)
}

/// Answers from the files, if no host runs.
fn from_files<R: ReadAudit>(config: &Config, request: &R, on_line: OnLine<'_>) -> Result<R::Rest> {
    let uid = geteuid().as_raw();
    let people = People::new(config.persons(), &config.guardrails()?)?;
    let data = config.data()?;
    let person = people
        .by_uid(uid)
        .ok_or_else(|| Failed::error(ErrorKind::DENIED, stranger(uid, &data, None)))?;
    let decision = people.decide(person, qchost_policy::Right::ReadAudit, None);
    if let Some(denial) = decision.denial {
        return Err(Failed::error(
            ErrorKind::DENIED,
            format!("denied: {}", denial.reason),
        ));
    }
    if request.follows() {
        return Err(Failed::error(
            ErrorKind::UNAVAILABLE,
            "no host runs, so nothing is added to the record; start one (qchost run), or leave --follow out",
        ));
    }
    let folder = data.join("audit");
    ensure!(
        folder.is_dir(),
        "there is no record in {} yet; no host ran there",
        data.display()
    );
    check_version(&data)?;
    let source = Source {
        folder,
        key: Key::read(&keys::path(&data))?.audit()?,
        texts: person.reads_texts(),
        newest: None,
        recorded: Ledger::recorded_head(&data.join("state.db")).map_err(|error| error.to_string()),
    };
    request.read(&source, on_line)
}

async fn reconcile(route: &Route, accept: Vec<String>, output: Output) -> Result<()> {
    let found = control::perform(route, Reconcile { accept }, output).await?;
    output.result(&found, |found| show::reconciled(found))?;
    let open = found.iter().filter(|call| call.finding == Finding::Open);
    let open = open.count();
    ensure!(
        open == 0,
        "{} {} still without an outcome, see above; look on QuantConnect's site",
        counted(open, "call"),
        is_or_are(open)
    );
    Ok(())
}
