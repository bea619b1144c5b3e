//! Halts: stop writes and trades, allow them again, and show what is halted.

use anyhow::Result;
use jiff::Timestamp;
use qchost_gate::{ActiveHalt, Departed, HaltScope, HaltStorage, OpenLiquidation, Stopped};
use qchost_policy::{Person, Right};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Class, Handler, Rules};
use crate::config::Account;
use crate::host::Host;
use crate::reports::Reports;

const READ_BACK: &str = "qchost halt --list";
/// What no halt ends.
const STILL_AT_WORK: &str = "a halt does not end QuantConnect's agents at work, nor notebooks that run: they may deploy again; \
    stop them at QuantConnect's site (an agent also by: qchost call stop_agent_deployment), then repeat the halt";

/// Halts writes and trades.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// This account.
    #[arg(long)]
    pub account: Option<String>,
    /// This plugin.
    #[arg(long)]
    pub plugin: Option<String>,
    /// The reason; plugins and people are told.
    #[arg(long, default_value = "halted by an operator", value_name = "TEXT")]
    pub reason: String,
    /// Stop or liquidate what runs live as well, and report each.
    #[arg(long, conflicts_with = "plugin")]
    pub liquidate: bool,
}

/// Ends a halt.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// This account.
    #[arg(long)]
    pub account: Option<String>,
    /// This plugin.
    #[arg(long)]
    pub plugin: Option<String>,
}

/// Lists the halts in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListHalts {}

/// What a halt did.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Halted {
    /// The writes that had been sent before, and how each ended.
    pub departed: Vec<Departed>,
    /// The live deployments that were liquidated or stopped.
    pub stopped: Vec<Stopped>,
    /// The halts in force afterwards; `None` while the host is starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halts: Option<Vec<HaltRow>>,
    /// What was requested and could not be done. The halt is in force regardless.
    pub problems: Vec<String>,
    /// What a halt that liquidates leaves to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is not done yet, if the answer did not wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<String>,
    /// `false` if no running host knows of the halt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
}

/// What the end of a halt did.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// How many halts ended: those of exactly the requested scope.
    pub ended: usize,
    /// Liquidations of the halt that are still open. The host does not continue them.
    pub open: Vec<Stopped>,
    /// The halts in force afterwards.
    pub halts: Vec<HaltRow>,
}

/// A halt in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HaltRow {
    pub account: Option<String>,
    pub plugin: Option<String>,
    pub since: Option<Timestamp>,
    /// The person who halted.
    pub by: String,
    pub reason: String,
    /// Where it is kept.
    pub kept: HaltStorage,
    /// Whether the file `halt` halts everything as well.
    pub file: bool,
    /// What failed when it was stored.
    pub trouble: Option<String>,
    /// What of it is still being liquidated.
    pub liquidating: Vec<LiquidationRow>,
}

/// A deployment that is still being liquidated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LiquidationRow {
    #[serde(flatten)]
    pub state: Stopped,
    pub since: Option<Timestamp>,
    /// When it was last looked at.
    pub looked: Option<Timestamp>,
}

impl Halt {
    /// The accounts and plugins that it is for.
    pub fn scope(&self) -> HaltScope {
        HaltScope {
            account: self.account.clone(),
            plugin: self.plugin.clone(),
        }
    }
}

impl Handler for Halt {
    type Answer = Halted;
    const RULES: Rules = Rules {
        class: Class::Control,
        outlasts: true,
        opens_to_halt: true,
        ..Rules::acts(Right::Halt, READ_BACK)
    };

    fn about(&self) -> Option<&str> {
        self.plugin.as_deref().or(self.account.as_deref())
    }

    /// Halts, and reports that before it waits for anything.
    async fn handle(self, host: &Host, person: &Person, reports: &Reports) -> Result<Halted> {
        if let Some(account) = &self.account {
            host.check_account(account)?;
        }
        if let Some(plugin) = &self.plugin {
            host.check_plugin_name(plugin)?;
        }
        self.begin(host, person, reports).await
    }
}

impl Halt {
    /// What may still deploy, since it runs at QuantConnect and has the authority of the account. Accounts of the host's own
    /// emulator have nothing of the kind.
    fn left_to_people(&self, host: &Host) -> Option<String> {
        let current = host.current();
        let may_have = |account: Option<&Account>| {
            account.is_none_or(|it| !it.is_emulator() || it.remote.is_some())
        };
        let all = &current.config.account;
        let may_deploy = match &self.account {
            Some(account) => may_have(all.get(account)),
            None => all.values().any(|account| may_have(Some(account))),
        };
        (self.liquidate && may_deploy).then(|| STILL_AT_WORK.to_owned())
    }

    /// Halts without checking that the scope exists. In force once this is polled.
    pub async fn begin(self, host: &Host, person: &Person, reports: &Reports) -> Result<Halted> {
        let what = scope_words(&self.scope());
        let halting = host
            .gate
            .halts
            .halt(person, self.scope(), &self.reason, self.liquidate);
        reports.halted(&format!(
            "halted: {what}; waiting for calls that had been sent already"
        ));
        let report = halting.await?;
        Ok(Halted {
            departed: report.departed,
            stopped: report.stopped,
            halts: Some(shown(host, &report.halts)),
            problems: report.problems,
            note: self.left_to_people(host),
            ..Halted::default()
        })
    }
}

impl Resume {
    /// The accounts and plugins that it is for.
    pub fn scope(&self) -> HaltScope {
        HaltScope {
            account: self.account.clone(),
            plugin: self.plugin.clone(),
        }
    }
}

impl Handler for Resume {
    type Answer = Resumed;
    const RULES: Rules = Rules {
        class: Class::Control,
        outlasts: true,
        ..Rules::acts(Right::Resume, READ_BACK)
    };

    fn about(&self) -> Option<&str> {
        self.plugin.as_deref().or(self.account.as_deref())
    }

    /// Names are not checked, since a halt may outlast its account or plugin in the configuration.
    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<Resumed> {
        let report = host.gate.halts.resume(person, self.scope()).await?;
        Ok(Resumed {
            ended: report.ended,
            open: report.open,
            halts: shown(host, &report.halts),
        })
    }
}

impl Handler for ListHalts {
    type Answer = Vec<HaltRow>;
    const RULES: Rules = Rules {
        class: Class::Control,
        opens_to_halt: true,
        ..Rules::reads(Right::Status)
    };

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Vec<HaltRow>> {
        let halts = host.gate.halts.store.active_halts().await;
        Ok(shown(host, &halts))
    }
}

/// These halts, with what of each is still being liquidated by the host.
pub fn shown(host: &Host, halts: &[ActiveHalt]) -> Vec<HaltRow> {
    listed(halts, &host.gate.liquidator.list())
}

/// These halts, each with its liquidations.
pub fn listed(halts: &[ActiveHalt], open: &[OpenLiquidation]) -> Vec<HaltRow> {
    let instant = |ms| Timestamp::from_millisecond(ms).ok();
    let row = |one: &ActiveHalt| {
        let halt = &one.halt;
        let own = open
            .iter()
            .filter(|one| one.scope.account == halt.account && one.scope.plugin == halt.plugin);
        HaltRow {
            account: halt.account.clone(),
            plugin: halt.plugin.clone(),
            since: instant(halt.at),
            by: halt.by.clone(),
            reason: halt.reason.clone(),
            kept: one.kept,
            file: one.file,
            trouble: one.trouble.clone(),
            liquidating: own
                .map(|one| LiquidationRow {
                    state: one.state.clone(),
                    since: instant(one.since),
                    looked: instant(one.looked),
                })
                .collect(),
        }
    };
    halts.iter().map(row).collect()
}

/// What a halt is for, in words.
pub fn scope_words(scope: &HaltScope) -> String {
    match (&scope.account, &scope.plugin) {
        (None, None) => "everything".to_owned(),
        (Some(account), None) => format!("account {account}"),
        (None, Some(plugin)) => format!("plugin {plugin}"),
        (Some(account), Some(plugin)) => format!("plugin {plugin} on account {account}"),
    }
}
