//! `qchost halt` and `qchost resume`: stops writes and trades, and allows them again.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Error, Result, anyhow, ensure};
use qchost_gate::{Departed, HALT_FILE, HaltScope, HaltStorage, Stopped, make_halt_file};
use schemars::JsonSchema;
use serde::Serialize;

use super::cells::{maybe, text};
use crate::control::{self, Approach, Route, Unopened, Unreadable};
use crate::data_folder::{DATABASE, halt_file};
use crate::exit_status::{ErrorKind, Failed};
use crate::output::{self, Output, table};
use crate::requests::{Halt, HaltRow, Halted, ListHalts, Resume, listed, scope_words};
use crate::terminal;

/// How long a host may be silent on a halt. The rest of the second within which the command ends is for starting it, for
/// the file, and for a busy machine.
const HALT_REPLY_TIMEOUT: Duration = Duration::from_millis(600);
/// How long to wait for its reply once the file `halt` exists.
const FILE_ANSWER_TIMEOUT: Duration = Duration::from_millis(50);
/// How long to wait for its reply if the file cannot be created.
const LATE_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The columns of a halt.
const HALT_COLUMNS: [&str; 6] = ["account", "plugin", "since", "by", "reason", "holds"];
/// The columns of a live deployment.
const STOPPED_COLUMNS: [&str; 6] = ["account", "project", "name", "result", "holds", "message"];

/// Halts, and shows which calls were under way.
pub async fn run(route: &Route, request: Halt, output: Output) -> Result<()> {
    let (scope, liquidate) = (request.scope(), request.liquidate);
    let mut display = output.progress();
    let heard = display.heard();
    let reached = OnceLock::new();
    let mut asking = pin!(async {
        let approach = control::approach(route).await?;
        reached.get_or_init(|| HaltTarget::by(&approach));
        if let Approach::Alone {
            config,
            is_new: true,
            ..
        } = &approach
        {
            return Err(no_host_error(&config.data()?, &scope));
        }
        let report = approach.perform(route, request, output, &mut display).await;
        display.done();
        report
    });
    let silent = async {
        tokio::time::sleep(HALT_REPLY_TIMEOUT).await;
        match reached.get() {
            // A host that has confirmed the halt may wait long for calls that had been sent.
            _ if heard.load(Ordering::Relaxed) => std::future::pending().await,
            Some(HaltTarget::Alone { .. }) => std::future::pending().await,
            Some(HaltTarget::Host(data)) => data.clone(),
            // It is too busy to accept a connection, or only its lock is visible.
            None => route.data(),
        }
    };
    let data = tokio::select! {
        biased;
        report = &mut asking => return match (report, reached.get()) {
            (Ok(report), Some(HaltTarget::Alone { data })) => {
                show_stored(report, &scope, liquidate, data, output)
            }
            (Ok(report), _) => show(&report, "", &scope, liquidate, output),
            (Err(why), _) if why.is::<Unopened>() => {
                halt_by_file(route.data().as_deref(), &why, liquidate, output)
            }
            (Err(why), None) => Err(with_file_remedy(why, route.data().as_deref())),
            (Err(why), Some(HaltTarget::Host(data))) if why.is::<Unreadable>() => {
                if heard.load(Ordering::Relaxed) {
                    return Err(why.context(
                        "the halt is in force, but the rest of the answer is lost",
                    ));
                }
                halt_unread(data.as_deref(), &why, liquidate, output)
            }
            (Err(why), Some(_)) => Err(why),
        },
        data = silent => data,
    };
    // The folder may be held by a command or be inaccessible: then there is no host that could reply.
    if reached.get().is_none()
        && let Some(data) = data.as_deref().filter(|data| !control::has_host(data))
    {
        let why = control::holder_error(data);
        return halt_by_file(Some(data), &why, liquidate, output);
    }
    let file = match make_file(data.as_deref()) {
        Ok(file) => file,
        Err(why) => {
            // Shown at once, since the operator can act on it; the reply may still arrive.
            output.warning(&output::words(&why));
            return match tokio::time::timeout(LATE_ANSWER_TIMEOUT, asking).await {
                Ok(report) => show(&report?, "", &scope, liquidate, output),
                Err(_) => Err(why),
            };
        }
    };
    output.warning(&format!(
        "the host does not answer: made {}, which halts everything until: qchost resume",
        file.display()
    ));
    if let Ok(Ok(report)) = tokio::time::timeout(FILE_ANSWER_TIMEOUT, asking).await {
        return show(&report, "", &scope, liquidate, output);
    }
    let why = "the host does not answer, so nothing is known to be";
    show_file(&file, "", liquidate, why, output)
}

/// Halts by the file if no host was found and the halt cannot be stored.
fn halt_by_file(data: Option<&Path>, why: &Error, liquidate: bool, output: Output) -> Result<()> {
    let kind = ErrorKind::from_error(why);
    let why = output::words(why);
    let Some(data) = data else {
        return Err(Failed::error(kind, format!("nothing is halted: {why}")));
    };
    let file = make_halt_file(data).map_err(|error| {
        let message = format!(
            "nothing is halted: {why}; and the file `{HALT_FILE}` cannot be made either ({error}); have the user whose folder it \
             is make it: touch {}",
            halt_file(data)
        );
        Failed::error(kind, message)
    })?;
    output.warning(&format!(
        "the halt cannot be stored: {why}; made {}, which halts everything until: qchost resume",
        file.display()
    ));
    let data = data.display();
    let suffix = format!(", for the host that has {data} or starts there: none was found");
    let why = "no host was found, so nothing is";
    show_file(&file, &suffix, liquidate, why, output)
}

/// Halts by the file if the host cannot be understood: a command of another version must not keep it from being halted.
fn halt_unread(data: Option<&Path>, why: &Error, liquidate: bool, output: Output) -> Result<()> {
    let why = output::words(why);
    let file = make_file(data).map_err(|error| anyhow!("{why}; {}", output::words(&error)))?;
    output.warning(&format!(
        "{why}; made {}, which halts everything until: qchost resume",
        file.display()
    ));
    let why = "the host cannot be understood, so nothing is known to be";
    show_file(&file, "", liquidate, why, output)
}

/// Adds to an error how to halt without a reply from the host.
fn with_file_remedy(why: Error, data: Option<&Path>) -> Error {
    let Some(data) = data else { return why };
    let message = format!(
        "{}; to halt without an answer, have the user that the host runs as make the file: touch {}",
        output::words(&why),
        halt_file(data)
    );
    Failed::error(ErrorKind::from_error(&why), message)
}

/// Shows a halt by the file. It liquidates nothing, so `why` is the error if that was requested.
fn show_file(file: &Path, suffix: &str, liquidate: bool, why: &str, output: Output) -> Result<()> {
    let halted = HaltedByFile {
        file: file.to_owned(),
        answered: false,
    };
    output.result(&halted, |halted| {
        let file = halted.file.display();
        format!("halted: everything, by the file {file}{suffix}")
    })?;
    ensure!(
        !liquidate,
        "halted, but {why} liquidated; look at QuantConnect's site"
    );
    Ok(())
}

/// A halt by the file, of which no host has said that it is in force.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HaltedByFile {
    file: PathBuf,
    /// Whether a host answered; always `false`.
    answered: bool,
}

/// The target of a halt.
enum HaltTarget {
    /// A host, with its data folder if known.
    Host(Option<PathBuf>),
    /// No host: the next host in this folder will be halted.
    Alone { data: PathBuf },
}

impl HaltTarget {
    fn by(approach: &Approach<'_>) -> Self {
        match approach {
            Approach::Host(found) => Self::Host(found.data.clone()),
            Approach::Alone { config, .. } => Self::Alone {
                data: config.data().unwrap_or_default(),
            },
        }
    }
}

/// Creates the file `halt` for a host that does not answer.
fn make_file(data: Option<&Path>) -> Result<PathBuf> {
    let Some(data) = data else {
        let message = format!(
            "the host does not answer, and its data folder is not known; have the user that it runs as make the file `{HALT_FILE}` \
             in it, or name it: qchost --data FOLDER halt"
        );
        return Err(Failed::error(ErrorKind::UNAVAILABLE, message));
    };
    make_halt_file(data).map_err(|error| {
        let message = format!(
            "the host does not answer, and the file `{HALT_FILE}` cannot be made in its data folder; have the user that it runs as \
             make it: touch {}: {error}",
            halt_file(data)
        );
        Failed::error(ErrorKind::UNAVAILABLE, message)
    })
}

/// Why a halt is rejected where no host has ever run: a host that was started before the configuration named this folder
/// would go on. Only the first host there can be halted.
fn no_host_error(data: &Path, scope: &HaltScope) -> Error {
    let everything = *scope == HaltScope::default();
    let made = everything.then(|| make_halt_file(data).ok()).flatten();
    let made = made.map_or_else(String::new, |file| {
        format!("; made {}, which halts the first one there", file.display())
    });
    let message = format!(
        "no running host was halted: none has ever run in {}{made}; if one runs with another data folder, name that: \
         qchost --data FOLDER halt",
        data.display()
    );
    Failed::error(ErrorKind::UNAVAILABLE, message)
}

/// Shows a halt that no running host knows of.
fn show_stored(
    mut report: Halted,
    scope: &HaltScope,
    liquidate: bool,
    data: &Path,
    output: Output,
) -> Result<()> {
    // A halt kept only in this process ends with it.
    let lost = report.halts.iter().flatten().find(|halt| {
        halt.account == scope.account
            && halt.plugin == scope.plugin
            && halt.kept == HaltStorage::Memory
    });
    if let Some(lost) = lost {
        let why = anyhow!("{}", maybe(lost.trouble.as_ref()));
        return halt_by_file(Some(data), &why, liquidate, output);
    }
    report.answered = Some(false);
    let data = data.display();
    let suffix = format!(", for the next host that starts in {data}: none runs there");
    show(&report, &suffix, scope, liquidate, output)
}

fn show(
    report: &Halted,
    suffix: &str,
    scope: &HaltScope,
    liquidate: bool,
    output: Output,
) -> Result<()> {
    let mut end = "qchost resume".to_owned();
    for (flag, name) in [("--account", &scope.account), ("--plugin", &scope.plugin)] {
        if let Some(name) = name {
            end += &format!(" {flag} {name}");
        }
    }
    output.result(report, |report| {
        let what = scope_words(scope);
        let mut text = format!("halted: {what}{suffix}\nend it with: {end}");
        if let Some(unfinished) = &report.unfinished {
            text += &format!("\n{}", terminal::line(unfinished));
        }
        text += &halts_section("in force now:", report.halts.as_deref().unwrap_or_default());
        text += &section(
            "calls that had been sent already, and how each ended:",
            &["call", "account", "plugin", "operation", "ended"],
            report.departed.iter().map(departed),
        );
        text += &section(
            "live deployments:",
            &STOPPED_COLUMNS,
            report.stopped.iter().map(|one| stopped(one).to_vec()),
        );
        if liquidate && report.stopped.is_empty() && report.problems.is_empty() {
            text += "\nnothing runs live, so there was nothing to liquidate";
        }
        if let Some(note) = &report.note {
            text += &format!("\n\nnote: {}", terminal::line(note));
        }
        text
    })?;
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|it| terminal::line(it))
        .collect();
    ensure!(problems.is_empty(), "halted, but {}", problems.join("; "));
    let open = report.stopped.iter().filter(|one| one.open).count();
    if open == 0 {
        return Ok(());
    }
    Err(Failed::error(
        ErrorKind::PositionsOpen,
        format!(
            "positions open: {open} live deployments run or hold something, or may, see above; a host that runs goes on with \
             them until `qchost resume`: look at qchost halt --list, and at QuantConnect's site"
        ),
    ))
}

/// Lists the halts.
pub async fn list(route: &Route, output: Output) -> Result<()> {
    let mut display = output.progress();
    let (halts, problems) = match control::approach(route).await? {
        Approach::Alone { config, lock, .. } => {
            output.note("no host runs: this is what one that starts here finds");
            let found = stored(config.data()?).await?;
            drop(lock);
            found
        }
        approach => {
            let halts = approach
                .perform(route, ListHalts {}, output, &mut display)
                .await?;
            (halts, Vec::new())
        }
    };
    display.done();
    output.result(&halts, |halts| {
        if halts.is_empty() {
            return match problems.is_empty() {
                true => "nothing is halted".to_owned(),
                false => "no halt is known".to_owned(),
            };
        }
        let rows: Vec<_> = halts.iter().map(halt).collect();
        let open = halts.iter().flat_map(|halt| &halt.liquidating);
        let open = open.map(|one| {
            let [account, project, name, result, holds, message] = stopped(&one.state);
            let looked = maybe(one.looked);
            vec![account, project, name, result, holds, looked, message]
        });
        let columns = [
            "account", "project", "name", "result", "holds", "looked", "message",
        ];
        table(&HALT_COLUMNS, &rows) + &section("still being liquidated:", &columns, open)
    })?;
    ensure!(
        problems.is_empty(),
        "more may be halted, since not all of it can be read: {}",
        problems.join("; ")
    );
    Ok(())
}

/// The halts in the files of a data folder that no host uses, and what cannot be read. Nothing is opened for writing,
/// which would need disk space.
async fn stored(data: PathBuf) -> Result<(Vec<HaltRow>, Vec<String>)> {
    let reading = tokio::task::spawn_blocking(move || {
        qchost_gate::stored_halts(&data, &data.join(DATABASE), &data.join("audit"))
    });
    let found = reading.await?;
    Ok((listed(&found.halts, &found.liquidations), found.problems))
}

/// Ends halts.
pub async fn resume(route: &Route, request: Resume, output: Output) -> Result<()> {
    let what = scope_words(&request.scope());
    let report = control::perform(route, request, output).await;
    let report = report.map_err(|why| match why.is::<Unopened>() {
        true => {
            why.context("nothing was resumed: what is halted stays halted (qchost halt --list)")
        }
        false => why,
    })?;
    output.result(&report, |report| {
        let open = section(
            "not liquidated any more, and still open:",
            &STOPPED_COLUMNS,
            report.open.iter().map(|one| stopped(one).to_vec()),
        );
        let standing = halts_section("still halted:", &report.halts);
        match (report.ended, standing.is_empty()) {
            (0, true) => "nothing is halted".to_owned(),
            (0, false) => standing.trim_start().to_owned(),
            (_, true) => format!("resumed: {what}; nothing is halted{open}"),
            (_, false) => format!("the halt of {what} has ended; others stand{standing}{open}"),
        }
    })?;
    ensure!(
        report.ended > 0,
        "no halt is for {what}, so none has ended; see those there are: qchost halt --list"
    );
    Ok(())
}

/// A table below a title; nothing if it has no rows.
fn section(title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n\n{title}\n{}", table(columns, &rows))
}

fn halts_section(title: &str, halts: &[HaltRow]) -> String {
    section(title, &HALT_COLUMNS, halts.iter().map(halt))
}

/// A halt, by [`HALT_COLUMNS`].
fn halt(halt: &HaltRow) -> Vec<String> {
    let (kept, also) = match halt.kept {
        HaltStorage::Database => ("until resumed", "; and by the file `halt`"),
        HaltStorage::Reserve => ("until resumed (in the reserve)", "; and by the file `halt`"),
        HaltStorage::Audit => ("until resumed (in the audit)", "; and by the file `halt`"),
        HaltStorage::File => ("until resumed", ", by the file `halt`"),
        HaltStorage::Memory => ("UNTIL THE HOST ENDS", ""),
    };
    let file = if halt.file { also } else { "" };
    vec![
        maybe(halt.account.as_ref()),
        maybe(halt.plugin.as_ref()),
        maybe(halt.since),
        text(&halt.by),
        text(&halt.reason),
        format!("{kept}{file}"),
    ]
}

fn departed(call: &Departed) -> Vec<String> {
    let Departed {
        call,
        account,
        plugin,
        operation,
        ended,
    } = call;
    [call, account, plugin, operation, ended]
        .map(|part| text(part))
        .to_vec()
}

/// A live deployment, by [`STOPPED_COLUMNS`].
fn stopped(one: &Stopped) -> [String; 6] {
    [
        text(&one.account),
        maybe(one.project),
        text(&one.name),
        text(&one.result),
        holdings(one),
        maybe(one.message.as_ref()),
    ]
}

/// The positions of a deployment.
fn holdings(one: &Stopped) -> String {
    let Some(positions) = &one.positions else {
        return "not known".to_owned();
    };
    if positions.is_empty() {
        return "nothing".to_owned();
    }
    let holdings = positions.iter().map(|one| {
        let value = one.value.as_ref();
        let value = value.map(|value| format!(" (worth {})", terminal::line(value)));
        format!(
            "{} {}{}",
            text(&one.quantity),
            text(&one.symbol),
            value.unwrap_or_default()
        )
    });
    holdings.collect::<Vec<_>>().join(", ")
}
