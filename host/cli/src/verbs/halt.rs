//! `qchost halt` and `qchost resume`: stops writes and trades, and allows them again.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use qchost_gate::{HALT_FILE, HaltScope, OpenLiquidation, StandingHalt, make_halt_file};
use qchost_ledger::Halt;
use qchost_policy::Person;
use serde_json::{Value, json};

use crate::args::Target;
use crate::control::{self, Approach, Reports, Request, Route, Unopened};
use crate::host::{DATABASE, Host, halt_file};
use crate::output::{self, ExitWith, Output, table};
use crate::terminal;
use crate::verbs::{cell, instant};

/// How long a host may be silent on a halt.
const UNANSWERED: Duration = Duration::from_millis(800);
/// How long to wait for its reply once the file `halt` exists.
const LAST_CHANCE: Duration = Duration::from_millis(50);
/// How long to wait for its reply if the file cannot be created.
const LATE_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit status of a halt that left positions open.
const POSITIONS_OPEN: u8 = 3;

/// The columns of a halt.
const HALT_COLUMNS: [&str; 6] = ["account", "plugin", "since", "by", "reason", "holds"];

/// Halts, and shows which calls were under way.
pub async fn run(
    route: &Route,
    target: Target,
    reason: String,
    liquidate: bool,
    output: Output,
) -> Result<()> {
    let request = request(&target, reason, liquidate);
    let mut display = output.progress();
    let heard = display.heard();
    let reached = OnceLock::new();
    let mut asking = pin!(async {
        let approach = control::approach(route).await?;
        reached.get_or_init(|| Reached::by(&approach));
        if let Approach::Alone {
            config,
            is_new: true,
            ..
        } = &approach
        {
            return Err(never_ran(&config.data()?, &target));
        }
        let report = approach.perform(route, request, output, &mut display).await;
        display.done();
        report
    });
    let silent = async {
        tokio::time::sleep(UNANSWERED).await;
        match reached.get() {
            // A host that has confirmed the halt may wait long for calls that had been sent.
            _ if heard.load(Ordering::Relaxed) => std::future::pending().await,
            Some(Reached::Alone { .. }) => std::future::pending().await,
            Some(Reached::Host(data)) => data.clone(),
            // It is too busy to accept a connection, or only its lock is visible.
            None => route.data(),
        }
    };
    let data = tokio::select! {
        biased;
        report = &mut asking => return match (report, reached.get()) {
            (Ok(report), Some(Reached::Alone { data })) => {
                show_alone(report, &target, liquidate, data, output)
            }
            (Ok(report), _) => show(&report, &target, liquidate, output),
            (Err(why), _) if why.is::<Unopened>() => {
                by_file_alone(route.data().as_deref(), &why, liquidate, output)
            }
            (Err(why), None) => Err(or_by_file(why, route.data().as_deref())),
            (Err(why), Some(_)) => Err(why),
        },
        data = silent => data,
    };
    // The folder may be held by a command or be inaccessible: then there is no host that could reply.
    if reached.get().is_none()
        && let Some(data) = data.as_deref().filter(|data| !control::has_host(data))
    {
        let why = anyhow!("{}", control::holder(data));
        return by_file_alone(Some(data), &why, liquidate, output);
    }
    let file = match make_file(data.as_deref()) {
        Ok(file) => file,
        Err(why) => {
            // Shown at once, since the operator can act on it; the reply may still arrive.
            output.warning(&output::words(&why));
            return match tokio::time::timeout(LATE_ANSWER_TIMEOUT, asking).await {
                Ok(report) => show(&report?, &target, liquidate, output),
                Err(_) => Err(why),
            };
        }
    };
    output.warning(&format!(
        "the host does not answer: made {}, which halts everything until: qchost resume",
        file.display()
    ));
    if let Ok(Ok(report)) = tokio::time::timeout(LAST_CHANCE, asking).await {
        return show(&report, &target, liquidate, output);
    }
    show_file(&file, "", output)?;
    ensure!(
        !liquidate,
        "halted, but the host does not answer, so nothing is known to be liquidated; look at QuantConnect's site"
    );
    Ok(())
}

/// Halts by the file if no host was found and the halt cannot be stored.
fn by_file_alone(data: Option<&Path>, why: &Error, liquidate: bool, output: Output) -> Result<()> {
    let why = output::words(why);
    let Some(data) = data else {
        bail!("nothing is halted: {why}");
    };
    let file = make_halt_file(data).map_err(|error| {
        anyhow!(
            "nothing is halted: {why}; and the file `{HALT_FILE}` cannot be made either ({error}); have the user whose folder it \
             is make it: touch {}",
            halt_file(data)
        )
    })?;
    output.warning(&format!(
        "the halt cannot be stored: {why}; made {}, which halts everything until: qchost resume",
        file.display()
    ));
    let place = data.display();
    show_file(
        &file,
        &format!(", for the host that has {place} or starts there: none was found"),
        output,
    )?;
    ensure!(
        !liquidate,
        "halted, but no host was found, so nothing is liquidated; look at QuantConnect's site"
    );
    Ok(())
}

/// Adds to an error how to halt without a reply from the host.
fn or_by_file(why: Error, data: Option<&Path>) -> Error {
    let Some(data) = data else { return why };
    anyhow!(
        "{}; to halt without an answer, have the user that the host runs as make the file: touch {}",
        output::words(&why),
        halt_file(data)
    )
}

fn show_file(file: &Path, whom: &str, output: Output) -> Result<()> {
    let halted = json!({ "file": file, "answered": false });
    output.result(&halted, |_| {
        format!("halted: everything, by the file {}{whom}", file.display())
    })
}

/// The target of a halt.
enum Reached {
    /// A host, with its data folder if known.
    Host(Option<PathBuf>),
    /// No host: the next host in this folder will be halted.
    Alone { data: PathBuf },
}

impl Reached {
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
        bail!(
            "the host does not answer, and its data folder is not known; have the user that it runs as make the file `{HALT_FILE}` \
             in it, or name it: qchost --data DIR halt"
        );
    };
    make_halt_file(data).with_context(|| {
        format!(
            "the host does not answer, and the file `{HALT_FILE}` cannot be made in its data folder; have the user that it runs as \
             make it: touch {}",
            halt_file(data)
        )
    })
}

/// Why a halt is rejected where no host has ever run: a host that was started before the configuration named this folder
/// would go on. Only the first host there can be halted.
fn never_ran(data: &Path, target: &Target) -> Error {
    let everything = target.account.is_none() && target.plugin.is_none();
    let made = everything.then(|| make_halt_file(data).ok()).flatten();
    let made = made.map_or_else(String::new, |file| {
        format!("; made {}, which halts the first one there", file.display())
    });
    anyhow!(
        "no running host was halted: none has ever run in {}{made}; if one runs with another data folder, name that: \
         qchost --data DIR halt",
        data.display()
    )
}

/// Shows a halt that no running host knows of.
fn show_alone(
    mut report: Value,
    target: &Target,
    liquidate: bool,
    data: &Path,
    output: Output,
) -> Result<()> {
    let what = words(target.account.as_deref(), target.plugin.as_deref());
    // A halt kept only in this process ends with it.
    let lost = rows(&report, "halts").iter().find(|halt| {
        let is = |key: &str, name: &Option<String>| halt.get(key) == Some(&json!(name));
        let own = is("account", &target.account) && is("plugin", &target.plugin);
        own && halt.get("kept") == Some(&json!("memory"))
    });
    if let Some(lost) = lost {
        let why = anyhow!("{}", cell(lost, "trouble"));
        return by_file_alone(Some(data), &why, liquidate, output);
    }
    if let Value::Object(fields) = &mut report {
        fields.insert("answered".to_owned(), false.into());
    }
    let begins = format!(
        "halted: {what}, for the next host that starts in {}: none runs there",
        data.display()
    );
    show_as(&begins, &report, target, liquidate, output)
}

fn request(target: &Target, reason: String, liquidate: bool) -> Request {
    Request::Halt {
        account: target.account.clone(),
        plugin: target.plugin.clone(),
        reason,
        liquidate,
    }
}

fn show(report: &Value, target: &Target, liquidate: bool, output: Output) -> Result<()> {
    let what = words(target.account.as_deref(), target.plugin.as_deref());
    show_as(
        &format!("halted: {what}"),
        report,
        target,
        liquidate,
        output,
    )
}

/// Shows a halt, preceded by this text.
fn show_as(
    begins: &str,
    report: &Value,
    target: &Target,
    liquidate: bool,
    output: Output,
) -> Result<()> {
    let mut end = "qchost resume".to_owned();
    for (flag, name) in [("--account", &target.account), ("--plugin", &target.plugin)] {
        if let Some(name) = name {
            end += &format!(" {flag} {name}");
        }
    }
    output.result(report, |report| {
        let mut text = format!("{begins}\nend it with: {end}");
        if let Some(unfinished) = report.get("unfinished").and_then(Value::as_str) {
            text += &format!("\n{}", terminal::line(unfinished));
        }
        text += &section(report, "halts", "in force now:", &HALT_COLUMNS);
        text += &section(
            report,
            "departed",
            "calls that had been sent already, and how each ended:",
            &["call", "account", "plugin", "operation", "ended"],
        );
        text += &section(
            report,
            "stopped",
            "live deployments:",
            &["account", "project", "name", "result", "holds", "message"],
        );
        let none = |key: &str| rows(report, key).is_empty();
        if liquidate && none("stopped") && none("problems") {
            text += "\nnothing runs live, so there was nothing to liquidate";
        }
        text
    })?;
    let problems: Vec<String> = rows(report, "problems")
        .iter()
        .filter_map(Value::as_str)
        .map(terminal::line)
        .collect();
    ensure!(problems.is_empty(), "halted, but {}", problems.join("; "));
    let open = rows(report, "stopped")
        .iter()
        .filter(|row| row.get("open") != Some(&Value::Bool(false)))
        .count();
    if open == 0 {
        return Ok(());
    }
    Err(Error::new(ExitWith {
        status: POSITIONS_OPEN,
        message: format!(
            "positions open: {open} live deployments run or hold something, or may, see above; a host that runs goes on with \
             them until `qchost resume`: look at qchost halt --list, and at QuantConnect's site"
        ),
    }))
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
                .perform(route, Request::Halts, output, &mut display)
                .await?;
            (halts, Vec::new())
        }
    };
    display.done();
    output.result(&halts, |halts| {
        let rows = halt_rows(halts.as_array().map_or(&[], Vec::as_slice));
        if rows.is_empty() {
            return match problems.is_empty() {
                true => "nothing is halted".to_owned(),
                false => "no halt is known".to_owned(),
            };
        }
        let open: Vec<Value> = halts
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|halt| self::rows(halt, "liquidating"))
            .cloned()
            .collect();
        let open = json!({ "open": open });
        let columns = [
            "account", "project", "name", "result", "holds", "looked", "message",
        ];
        table(&HALT_COLUMNS, &rows) + &section(&open, "open", "still being liquidated:", &columns)
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
async fn stored(data: PathBuf) -> Result<(Value, Vec<String>)> {
    let reading = tokio::task::spawn_blocking(move || {
        qchost_gate::stored_halts(&data, &data.join(DATABASE), &data.join("audit"))
    });
    let found = reading.await?;
    Ok((listed(&found.halts, &found.liquidations), found.problems))
}

/// Ends halts.
pub async fn resume(route: &Route, target: Target, output: Output) -> Result<()> {
    let what = words(target.account.as_deref(), target.plugin.as_deref());
    let request = Request::Resume {
        account: target.account,
        plugin: target.plugin,
    };
    let report = control::perform(route, request, output).await;
    let report = report.map_err(|why| match why.is::<Unopened>() {
        true => {
            why.context("nothing was resumed: what is halted stays halted (qchost halt --list)")
        }
        false => why,
    })?;
    let ended = report.get("ended").and_then(Value::as_u64).unwrap_or(0);
    output.result(&report, |report| {
        let open = section(
            report,
            "open",
            "not liquidated any more, and still open:",
            &["account", "project", "name", "result", "holds", "message"],
        );
        let standing = section(report, "halts", "still halted:", &HALT_COLUMNS);
        match (ended, standing.is_empty()) {
            (0, true) => "nothing is halted".to_owned(),
            (0, false) => standing.trim_start().to_owned(),
            (_, true) => format!("resumed: {what}; nothing is halted{open}"),
            (_, false) => format!("the halt of {what} has ended; others stand{standing}{open}"),
        }
    })?;
    ensure!(
        ended > 0,
        "no halt is for {what}, so none has ended; see those there are: qchost halt --list"
    );
    Ok(())
}

/// Checks the scope of a halt.
pub fn scope(host: &Host, account: Option<String>, plugin: Option<String>) -> Result<HaltScope> {
    if let Some(account) = &account {
        host.check_account(account)?;
    }
    if let Some(plugin) = &plugin {
        host.check_plugin_name(plugin)?;
    }
    Ok(HaltScope { account, plugin })
}

/// Halts, and reports that before it waits for anything.
pub async fn by_host(
    host: &Host,
    person: &Person,
    scope: HaltScope,
    reason: &str,
    liquidate: bool,
    reports: &Reports,
) -> Result<Value> {
    let what = words(scope.account.as_deref(), scope.plugin.as_deref());
    let halting = host.gate.halt(person, scope, reason, liquidate);
    reports.halted(&format!(
        "halted: {what}; waiting for calls that had been sent already"
    ));
    let report = halting.await?;
    let mut value = serde_json::to_value(&report)?;
    put_halts(&mut value, host, &report.halts);
    Ok(value)
}

/// Ends halts. Names are not checked, since a halt may outlast its account or plugin in the configuration.
pub async fn resume_by_host(host: &Host, person: &Person, scope: HaltScope) -> Result<Value> {
    let report = host.gate.resume(person, scope).await?;
    let mut value = json!({ "ended": report.ended, "open": report.open });
    put_halts(&mut value, host, &report.halts);
    Ok(value)
}

/// The halts in force.
pub async fn list_by_host(host: &Host) -> Value {
    let halts = host.gate.standing_halts().await;
    shown(host, &halts)
}

fn put_halts(report: &mut Value, host: &Host, halts: &[StandingHalt]) {
    if let Value::Object(fields) = report {
        fields.insert("halts".to_owned(), shown(host, halts));
    }
}

pub fn shown(host: &Host, halts: &[StandingHalt]) -> Value {
    listed(halts, &host.gate.liquidations())
}

fn listed(halts: &[StandingHalt], open: &[OpenLiquidation]) -> Value {
    let liquidating = |halt: &Halt| -> Vec<Value> {
        let own = open
            .iter()
            .filter(|one| one.scope.account == halt.account && one.scope.plugin == halt.plugin);
        own.map(|one| {
            let mut row = serde_json::to_value(&one.state).unwrap_or_default();
            if let Value::Object(fields) = &mut row {
                fields.insert("since".to_owned(), instant(one.since).into());
                fields.insert("looked".to_owned(), instant(one.looked).into());
            }
            row
        })
        .collect()
    };
    halts
        .iter()
        .map(|one| {
            json!({
                "account": one.halt.account,
                "plugin": one.halt.plugin,
                "since": instant(one.halt.at),
                "by": one.halt.by,
                "reason": one.halt.reason,
                "kept": one.kept,
                "file": one.file,
                "trouble": one.trouble,
                "liquidating": liquidating(&one.halt),
            })
        })
        .collect()
}

pub fn words(account: Option<&str>, plugin: Option<&str>) -> String {
    match (account, plugin) {
        (None, None) => "everything".to_owned(),
        (Some(account), None) => format!("account {account}"),
        (None, Some(plugin)) => format!("plugin {plugin}"),
        (Some(account), Some(plugin)) => format!("plugin {plugin} on account {account}"),
    }
}

fn rows<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn section(report: &Value, key: &str, title: &str, columns: &[&str]) -> String {
    let rows: Vec<Vec<String>> = match key {
        "halts" => halt_rows(rows(report, key)),
        _ => rows(report, key)
            .iter()
            .map(|row| {
                let shown = |column: &&str| match *column {
                    "holds" => held(row),
                    column => cell(row, column),
                };
                columns.iter().map(shown).collect()
            })
            .collect(),
    };
    if rows.is_empty() {
        return String::new();
    }
    format!("\n\n{title}\n{}", table(columns, &rows))
}

/// The positions of a deployment, for people.
fn held(row: &Value) -> String {
    let Some(positions) = row.get("positions").and_then(Value::as_array) else {
        return "not known".to_owned();
    };
    if positions.is_empty() {
        return "nothing".to_owned();
    }
    let held = positions.iter().map(|one| {
        let value = match cell(one, "value").as_str() {
            "-" => String::new(),
            value => format!(" (worth {value})"),
        };
        format!("{} {}{value}", cell(one, "quantity"), cell(one, "symbol"))
    });
    held.collect::<Vec<_>>().join(", ")
}

/// Halts for people, by [`HALT_COLUMNS`].
fn halt_rows(halts: &[Value]) -> Vec<Vec<String>> {
    halts
        .iter()
        .map(|halt| {
            let mut row: Vec<String> = ["account", "plugin", "since", "by", "reason"]
                .map(|key| cell(halt, key))
                .into();
            let (kept, also) = match halt.get("kept").and_then(Value::as_str) {
                Some("database") => ("until resumed", "; and by the file `halt`"),
                Some("reserve") => ("until resumed (in the reserve)", "; and by the file `halt`"),
                Some("audit") => ("until resumed (in the audit)", "; and by the file `halt`"),
                Some("file") => ("until resumed", ", by the file `halt`"),
                _ => ("UNTIL THE HOST ENDS", ""),
            };
            let file = match halt.get("file") {
                Some(Value::Bool(true)) => also,
                _ => "",
            };
            row.push(format!("{kept}{file}"));
            row
        })
        .collect()
}
