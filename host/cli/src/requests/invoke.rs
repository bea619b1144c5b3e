//! An action of a plugin, for a person.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use qchost_gate::AdminDetail;
use qchost_policy::{Person, Right};
use qchost_runtime::{InvocationLog, Progress, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::{Class, Handler, MAX_ARGUMENT_BYTES, Rules};
use crate::config::Config;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::{Host, denied};
use crate::reload::Reconciler;
use crate::reports::{LogRow, Reports};

/// Polling interval for a plugin that is being loaded: whether it still is depends on runtime, files and the host's stage,
/// which have no announcement in common, and only the first invocations of a plugin wait.
const LOADING_INTERVAL: Duration = Duration::from_millis(20);

/// Invokes an action of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// `strategy-lab.sweep`, or an alias.
    pub action: String,
    pub input: Value,
    /// Whether the client wants what the plugin logs meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logs: bool,
}

impl Handler for Invoke {
    /// What the plugin returned.
    type Answer = Value;
    const RULES: Rules = Rules {
        class: Class::Invocation,
        max_bytes: MAX_ARGUMENT_BYTES,
        is_for_accounts: true,
        waits_for_plugins: true,
        ..Rules::acts(Right::Invoke, "qchost audit query --limit 20")
    };

    fn about(&self) -> Option<&str> {
        self.action.split_once('.').map(|(plugin, _)| plugin)
    }

    async fn prepare(&self, host: &Arc<Host>, _: &Config) -> Result<()> {
        Reconciler::new(Arc::clone(host)).reconcile_once().await;
        Ok(())
    }

    async fn handle(self, host: &Host, person: &Person, reports: &Reports) -> Result<Value> {
        let Self {
            action,
            input,
            logs,
        } = self;
        let target = find(host, &action).await?;
        if target.alias.is_some() {
            // It was decided by what the alias begins with.
            check_person(host, person, &target.plugin).await?;
        }
        let log = logs.then(Arc::<InvocationLog>::default);
        let invoking = async {
            let mut unsent = None;
            let report = |progress: &Progress| {
                unsent = (!reports.progress(progress)).then(|| progress.clone());
            };
            let result = host
                .invoke(person.uid, &target, input, log.clone(), report)
                .await;
            if let Some(log) = &log {
                log.close();
            }
            if let Some(progress) = unsent {
                reports.last_progress(&progress).await;
            }
            result
        };
        // Beside it, so that a client that reads slowly does not hold up the invocation.
        let forwarding = forward(&target.plugin, log.as_deref(), reports);
        let (result, ()) = tokio::join!(invoking, forwarding);
        result
    }
}

/// What a name invokes, once the plugin that it may be of is loaded.
async fn find(host: &Host, name: &str) -> Result<Target> {
    let own = name.split_once('.');
    if let Some((plugin, action)) = own
        && let Some(loaded) = host.runtime.plugin(plugin)
        && (loaded.description().actions.iter()).any(|it| it.name == action)
    {
        // No alias has the name of an action.
        return Ok(Target::new(plugin, action));
    }
    loop {
        if let Some(target) = host.runtime.alias(name) {
            return Ok(target);
        }
        let awaits = host.awaits_alias(name) || own.is_some_and(|(plugin, _)| host.awaits(plugin));
        if !awaits {
            break;
        }
        tokio::time::sleep(LOADING_INTERVAL).await;
    }
    let is_loaded = own.is_some_and(|(plugin, _)| host.runtime.plugin(plugin).is_some());
    if !is_loaded {
        // A broken plugin gets another message than a missing one.
        host.check_alias(name)?;
    }
    let (plugin, action) = own.ok_or_else(|| {
        let message = format!(
            "`{name}` is not PLUGIN.ACTION, such as strategy-lab.sweep, nor an alias; `qchost plugin list` shows what there is"
        );
        Failed::error(ErrorKind::Usage, message)
    })?;
    if !is_loaded {
        host.check_plugin(plugin)?;
    }
    Ok(Target::new(plugin, action))
}

/// Checks that a person may invoke the actions of a plugin.
async fn check_person(host: &Host, person: &Person, plugin: &str) -> Result<()> {
    let right = Invoke::RULES.right;
    let decision = host.current().people.decide(person, right, Some(plugin));
    if decision.allowed {
        return Ok(());
    }
    let reason = decision.denial.map(|denial| denial.reason);
    let reason = reason.unwrap_or_default();
    let detail = AdminDetail::Denied {
        about: Some(plugin.to_owned()),
        reason: reason.clone(),
    };
    host.gate.note_denial(person, Some(right), detail).await?;
    Err(denied(right, &reason, &host.data))
}

/// Passes on the lines of an invocation until it ends, then the number of those that the client did not read in time.
async fn forward(plugin: &str, log: Option<&InvocationLog>, reports: &Reports) {
    let Some(log) = log else {
        return;
    };
    while let Some(line) = log.next().await {
        if !reports.log(LogRow::new(plugin, &line)).await {
            return;
        }
    }
    match log.left_out() {
        0 => {}
        lines => reports.log_left_out(lines).await,
    }
}
