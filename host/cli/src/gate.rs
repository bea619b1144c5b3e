//! Builds the gate from the configuration: database, audit and keys in a folder, in front of a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use qchost_audit::{
    Anchor as AuditAnchor, Audit, Disk, Entry, Kind, Opening, Options as AuditOptions,
};
use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_evidence::Evidence;
use qchost_gate::{AdminBody, Gate, NODE_TYPES, Options, Settings, Sources};
use qchost_ledger::Ledger;
use qchost_policy::Guardrails;
use qchost_secrets::Profiles;
use qchost_traffic::AccountLimits;

use crate::config::{Anchor, Config, Mode};
use crate::data_folder::DATABASE;
use crate::keys::{self, Key};

/// Time limit of one call to QuantConnect, even if its caller is gone.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum bytes of audit records per day and plugin: some 50 calls a second around the clock.
const MAX_AUDIT_BYTES_PER_DAY: u64 = 4 << 30;

/// Opens a gate on a data folder.
pub async fn open(
    config: &Config,
    data: &Path,
    key: &Key,
    ledger: Ledger,
    upstream: Box<dyn Upstream>,
    settings: Settings,
) -> Result<Gate> {
    ledger.bind(&key.folder_id()?).await?;
    let (audit, opening) = open_audit(config, data, key, &ledger).await?;
    let evidence = Evidence::new(ledger.clone());
    let options = Options {
        settings,
        ledger,
        audit,
        opening,
        key: key.gate()?,
        call_timeout: CALL_TIMEOUT,
        audit_share: MAX_AUDIT_BYTES_PER_DAY,
        evidence: Some(Arc::new(evidence)),
    };
    Ok(Gate::open(upstream, options).await?)
}

/// The settings that decide calls.
///
/// # Errors
/// When the vault's options cannot be used.
pub fn settings(config: &Config, guardrails: Guardrails) -> Result<Settings> {
    let secrets = config.secrets()?;
    let accounts = config.account.keys().map(|account| {
        let limits = config.limits.get(account).copied().unwrap_or_default();
        let limits = AccountLimits {
            per_minute: limits.per_minute,
            in_flight: limits.in_flight,
        };
        (account.clone(), limits)
    });
    let known = || NODE_TYPES.into_iter();
    let prices = known().map(|(node, price, _)| (node.to_owned(), price));
    let own_prices = config.node_prices.iter();
    let own_prices = own_prices.map(|(node, price)| (node.clone(), price.0));
    let maxima = known().map(|(node, _, most)| (node.to_owned(), most));
    let own_maxima = config.node_maxima.iter();
    let own_maxima = own_maxima.map(|(node, most)| (node.clone(), most.get()));
    Ok(Settings {
        profiles: Profiles::new(config.brokerage.clone(), secrets.clone())
            .with_deployments(config.deployment.clone()),
        secrets,
        guardrails,
        accounts: accounts.collect(),
        dormant: config.dormant.clone(),
        derived_data: config
            .account
            .iter()
            .filter(|(_, account)| account.derived_data())
            .map(|(name, _)| name.clone())
            .collect(),
        node_prices: prices.chain(own_prices).collect(),
        node_maxima: maxima.chain(own_maxima).collect(),
        live_trading: config.live_trading,
        two_person: config.two_person,
        production: config.mode == Mode::Production,
        approval_ttl: config.approvals.expire.0,
        permit_ttl: config.approvals.permit.0,
        sources: Sources {
            file: config.file.clone(),
            configuration: config.origin.clone(),
            waits: config.waits.clone(),
            policies: config.policies().unwrap_or_default(),
            guardrail_owners: config.guardrail_owners(),
            stand_in: false,
        },
    })
}

/// A gate without a connection, in a temporary folder: for inspecting a component and testing policies.
pub async fn scratch(config: &Config, folder: &Path) -> Result<Gate> {
    let key = Key::open(&keys::path(folder))?;
    open(
        config,
        folder,
        &key,
        Ledger::in_memory()?,
        Box::new(NoUpstream),
        settings(config, config.guardrails()?)?,
    )
    .await
}

/// Records what is done to a data folder without a host, and waits until it is on disk. The caller holds the folder's lock.
/// Where no host has run yet there is no record, and nothing to be recorded.
pub async fn record_alone(config: &Config, data: &Path, done: &AdminBody) -> Result<()> {
    let database = data.join(DATABASE);
    if !database.exists() {
        return Ok(());
    }
    let key = Key::open(&keys::path(data))?;
    let ledger = Ledger::open(&database)?;
    ledger.bind(&key.folder_id()?).await?;
    let (audit, _) = open_audit(config, data, &key, &ledger).await?;
    let recorded = audit.record(Entry::new(Kind::Admin, false, done)).await;
    audit.close().await;
    recorded?;
    Ok(())
}

/// Opens the audit, and links database and audit to each other.
async fn open_audit(
    config: &Config,
    data: &Path,
    key: &Key,
    ledger: &Ledger,
) -> Result<(Audit, Opening)> {
    let folder = data.join("audit");
    let options = AuditOptions {
        folder: folder.clone(),
        key: key.audit()?,
        segment_bytes: config.audit.segment.0,
        keep: config.audit.keep.map(|period| period.0),
        reserve_bytes: config.audit.reserve.0,
        anchor: config.audit.anchor.as_ref().map(|anchor| match anchor {
            Anchor::File(file) => AuditAnchor::File(file.clone()),
            Anchor::Syslog => AuditAnchor::Syslog,
        }),
        files: Arc::new(Disk),
    };
    let head = ledger.audit_head().await?;
    let opened = tokio::task::spawn_blocking(move || Audit::open(options, head.as_deref()));
    let (audit, opening) = opened.await?.with_context(|| {
        format!(
            "the record in {} cannot be opened; see what is wrong with: qchost audit verify",
            folder.display()
        )
    })?;
    if opening.recovered > 0 {
        tracing::warn!(target: "host", recovered = opening.recovered, "the last records of a host that was cut off were signed again");
    }
    Ok((audit, opening))
}

/// The connection of a gate that leads nowhere.
struct NoUpstream;

impl Upstream for NoUpstream {
    fn call<'a>(&'a self, _: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Err(nowhere()) })
    }

    fn download<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: u64,
        _: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Err(nowhere()) })
    }
}

fn nowhere() -> Failure {
    Failure::Unavailable(
        "nothing is sent while policies and components are only looked at".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_cost_what_the_program_knows_unless_the_file_says_otherwise() {
        let text = "[node-prices]\nO2-8 = 0.2\nO99 = 1.0\n[node-maxima]\nO8-16 = 2\n";
        let config: Config = toml::from_str(text).unwrap();
        let settings = settings(&config, Guardrails::none()).unwrap();
        let price = |node: &str| settings.node_prices.get(node).map(|price| price.0);
        let nodes = ["O2-8", "O4-12", "O8-16", "O99", "O1"];
        let prices = [Some(2_000), Some(3_000), Some(6_000), Some(10_000), None];
        assert_eq!(nodes.map(price), prices);
        let most = |node: &str| settings.node_maxima.get(node).copied();
        assert_eq!(nodes.map(most), [Some(24), Some(12), Some(2), None, None]);
    }

    #[test]
    fn objects_are_downloaded_from_the_accounts_that_say_so() {
        let account = "connection = \"embedded\"\ncloud = \"emulator\"\n";
        let text = format!("[account.a]\n{account}derived-data = true\n[account.b]\n{account}");
        let config: Config = toml::from_str(&text).unwrap();
        let settings = settings(&config, Guardrails::none()).unwrap();
        let accounts: Vec<_> = settings.derived_data.iter().collect();
        assert_eq!(accounts, ["a"]);
    }
}
