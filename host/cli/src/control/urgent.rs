//! Halting, resuming and listing halts: done on the control plane itself, and answered at once.
//!
//! Invariant: a halt is answered once it is in force, whatever it still waits for: the disk, a database that another
//! process has locked, or calls that had been sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qchost_gate::{HaltScope, make_halt_file};
use qchost_policy::Person;
use serde_json::Value;
use tokio::sync::oneshot;

use super::authority::AuthorizedRequest;
use super::shared::{EarlyHalt, Shared};
use crate::host::Host;
use crate::reports::Reports;
use crate::requests::{Halt, Halted, Request, answer, scope_words, shown};

/// How long a halt may take before it is answered with its current state. With either of the other limits it is shorter
/// than the silence after which the client halts by the file.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the file may take to reach the disk before a halt is answered without it.
const FILE_TIMEOUT: Duration = Duration::from_millis(200);
/// Time limit for checking that the plugin exists. A halt of a misspelt name would halt nothing; if the check fails, the
/// halt is set.
const NAME_TIMEOUT: Duration = Duration::from_millis(200);

/// Carries out the request.
pub(super) async fn carry_out(
    shared: &Arc<Shared>,
    authorized: &AuthorizedRequest,
    request: Request,
    reports: &Reports,
) -> Result<Value> {
    match request {
        Request::Halt(request) => {
            let (scope, liquidate) = (request.scope(), request.liquidate);
            let opened = tokio::time::timeout(ANSWER_TIMEOUT, shared.host()).await;
            let host = match opened {
                Ok(host) => host?,
                Err(_) => {
                    let early = EarlyHalt {
                        person: authorized.person.clone(),
                        scope: scope.clone(),
                        reason: request.reason.clone(),
                    };
                    let mut failed = "nothing is halted, and nothing liquidated".to_owned();
                    if shared.halt_early(early) {
                        let file = halt_next_host(shared, &scope).await;
                        let unfinished = early_message(file.as_deref());
                        if !liquidate {
                            let early = Halted {
                                unfinished: Some(unfinished),
                                ..Halted::default()
                            };
                            return Ok(serde_json::to_value(early)?);
                        }
                        let what = scope_words(&scope);
                        reports.halted(&format!(
                            "halted: {what}; {unfinished}; only then can it liquidate"
                        ));
                        if let Some(file) = file {
                            failed = format!(
                                "halted by {}, but nothing is liquidated, so look at QuantConnect's site",
                                file.display()
                            );
                        }
                    }
                    shared.host().await.context(failed)?
                }
            };
            // Halting is safe, so people in the file may do it; liquidating is not.
            let denied = match liquidate {
                true => authorized.confirm(shared).await.err(),
                false => None,
            };
            let liquidate = liquidate && denied.is_none();
            let request = Halt {
                liquidate,
                ..request
            };
            let report = halt(&host, &authorized.person, request, reports).await?;
            match denied {
                Some(denied) => Err(denied.context("halted, but nothing is liquidated")),
                None => answer(&host, &report),
            }
        }
        request => {
            let (host, person) = authorized.confirm(shared).await?;
            request.handle(&host, &person, reports).await
        }
    }
}

/// Makes the next host halt everything too if this one does not start; returns the halt file.
async fn halt_next_host(shared: &Shared, scope: &HaltScope) -> Option<PathBuf> {
    if *scope != HaltScope::default() {
        return None;
    }
    let (data, (done, made)) = (shared.data.clone(), oneshot::channel());
    // The disk may hang, and audit queries may occupy all other blocking threads.
    let making = move || drop(done.send(make_halt_file(&data)));
    let thread = thread::Builder::new().name("qchost-halt".to_owned());
    thread.spawn(making).ok()?;
    let made = tokio::time::timeout(FILE_TIMEOUT, made).await;
    made.ok()?.ok()?.ok()
}

/// The message for a halt before there is a host: nothing can be sent until the halt is in force.
fn early_message(file: Option<&Path>) -> String {
    let durable = match file {
        Some(path) => format!("{} keeps it until then", path.display()),
        None => "it is lost if the host does not start".to_owned(),
    };
    format!(
        "the host is starting, sends nothing before, and stores the halt as soon as its state is open; {durable}"
    )
}

async fn halt(
    host: &Arc<Host>,
    person: &Person,
    request: Halt,
    reports: &Reports,
) -> Result<Halted> {
    check(host, &request.scope()).await?;
    let liquidate = request.liquidate;
    // In force from here on.
    let mut halting = std::pin::pin!(request.begin(host, person, reports));
    match tokio::time::timeout(ANSWER_TIMEOUT, &mut halting).await {
        Ok(result) => result,
        Err(_) if liquidate => halting.await,
        // It continues in the background.
        Err(_) => Ok(Halted {
            halts: Some(shown(host, &host.gate.halts.store.list())),
            unfinished: Some(
                "the halt is in force; it is still being stored, or calls that had been sent before are still under way: qchost halt \
                 --list"
                    .to_owned(),
            ),
            ..Halted::default()
        }),
    }
}

/// Checks that the scope exists, unless that takes too long.
async fn check(host: &Arc<Host>, scope: &HaltScope) -> Result<()> {
    if let Some(account) = &scope.account {
        host.check_account(account)?;
    }
    let Some(plugin) = scope.plugin.clone() else {
        return Ok(());
    };
    if host.table.rows().iter().any(|row| row.claims(&plugin)) {
        return Ok(());
    }
    let checker = Arc::clone(host);
    let checking = tokio::task::spawn_blocking(move || checker.check_plugin_name(&plugin));
    match tokio::time::timeout(NAME_TIMEOUT, checking).await {
        Ok(Ok(found)) => found,
        Ok(Err(failed)) => Err(failed.into()),
        Err(_) => Ok(()),
    }
}
