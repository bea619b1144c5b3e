//! Halting, resuming and saying what is halted: done on the control plane itself, and answered at once.
//!
//! Invariant: a halt is answered for when it is in force, whatever it still waits for: the disk, a database that another
//! process has locked, or calls that had been sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use qchost_gate::{HaltScope, make_halt_file};
use qchost_policy::Person;
use serde_json::{Value, json};

use super::plane::{Early, Shared};
use super::{Reports, Request};
use crate::host::Host;
use crate::verbs::halt;

/// How long a halt may take before it is answered for as it is.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take to find out that there is such a plugin. A halt of one that is misspelt halts nothing; one that
/// cannot be looked for is halted.
const NAME_TIMEOUT: Duration = Duration::from_millis(200);

/// Does it.
pub(super) async fn carry_out(
    shared: &Arc<Shared>,
    person: &Person,
    request: Request,
    reports: &Reports,
) -> Result<Value> {
    match request {
        Request::Halt {
            account,
            plugin,
            reason,
            liquidate,
        } => {
            let scope = HaltScope { account, plugin };
            let opened = tokio::time::timeout(ANSWER_TIMEOUT, shared.host()).await;
            match opened {
                Ok(host) => halt(&host?, person, scope, &reason, liquidate, reports).await,
                Err(_) => {
                    let early = Early {
                        person: person.clone(),
                        scope: scope.clone(),
                        reason: reason.clone(),
                    };
                    if shared.halt_early(early) && !liquidate {
                        return Ok(early_answer(shared, &scope));
                    }
                    // Only a host can liquidate.
                    halt(
                        &shared.host().await?,
                        person,
                        scope,
                        &reason,
                        liquidate,
                        reports,
                    )
                    .await
                }
            }
        }
        request => {
            let host = shared.host().await?;
            let mut value = request.carry_out(&host, person, reports).await?;
            host.redactor().clean_value(&mut value);
            Ok(value)
        }
    }
}

/// A halt before there is a host: nothing can be sent until it is in force. One of everything holds for the next host too
/// if this one does not start.
fn early_answer(shared: &Shared, scope: &HaltScope) -> Value {
    let kept = match *scope == HaltScope::default() {
        true => make_halt_file(&shared.data).ok(),
        false => None,
    };
    let durable = match kept {
        Some(path) => format!("{} keeps it until then", path.display()),
        None => "it is lost if the host does not start".to_owned(),
    };
    json!({
        "departed": [],
        "stopped": [],
        "problems": [],
        "unfinished": format!("the host is starting, sends nothing before, and stores the halt as soon as its state is open; {durable}"),
    })
}

async fn halt(
    host: &Arc<Host>,
    person: &Person,
    scope: HaltScope,
    reason: &str,
    liquidate: bool,
    reports: &Reports,
) -> Result<Value> {
    check(host, &scope).await?;
    // In force from here on.
    let halting = halt::by_host(host, person, scope, reason, liquidate, reports);
    let mut halting = std::pin::pin!(halting);
    let result = match tokio::time::timeout(ANSWER_TIMEOUT, &mut halting).await {
        Ok(result) => result,
        Err(_) if liquidate => halting.await,
        // It goes on by itself.
        Err(_) => Ok(json!({
            "departed": [],
            "stopped": [],
            "halts": halt::shown(host, &host.gate.halts()),
            "problems": [],
            "unfinished": "the halt is in force; it is still being stored, or calls that had been sent before are still under way: \
                           qchost halt --list",
        })),
    };
    let mut value = result?;
    host.redactor().clean_value(&mut value);
    Ok(value)
}

/// Checks that there is what is to be halted, unless to find out takes too long.
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
    let looks = Arc::clone(host);
    let looking = tokio::task::spawn_blocking(move || looks.check_plugin_name(&plugin));
    match tokio::time::timeout(NAME_TIMEOUT, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(failed)) => Err(failed.into()),
        Err(_) => Ok(()),
    }
}
