//! A real gate before a connection of a test's, with everything that it keeps in a folder that is
//! thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qchost_audit::{Audit, Disk};
use qchost_catalog::Upstream;
use qchost_gate::{Gate, Options, Settings, Sources};
use qchost_ledger::Ledger;
use qchost_policy::Guardrails;
use qchost_secrets::{Profiles, Secrets};
use secrecy::SecretSlice;
use tempfile::TempDir;

/// A gate, and the folder that it needs for as long.
pub struct Gated {
    pub gate: Gate,
    pub folder: TempDir,
}

impl Gated {
    pub async fn new(upstream: impl Upstream + 'static) -> Self {
        Self::with(upstream, |_| {}).await
    }

    pub async fn with(upstream: impl Upstream + 'static, set: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = qchost_audit::Options {
            folder: folder.path().join("audit"),
            key: SecretSlice::from(vec![7_u8; 32]),
            segment_bytes: 1 << 20,
            keep: None,
            reserve_bytes: 1 << 16,
            anchor: None,
            files: Arc::new(Disk),
        };
        let (audit, opening) = Audit::open(audit, None).unwrap();
        let mut options = Options {
            settings: settings(),
            ledger: Ledger::in_memory().unwrap(),
            audit,
            opening,
            key: vec![7_u8; 32].into(),
            call_timeout: Duration::from_secs(30),
            audit_share: u64::MAX,
            evidence: None,
        };
        set(&mut options);
        let gate = Gate::open(Box::new(upstream), options).await.unwrap();
        Self { gate, folder }
    }
}

/// Settings of a gate without accounts, guardrails and profiles, which trades on paper.
pub(crate) fn settings() -> Settings {
    let secrets = Secrets::new(None).unwrap();
    Settings {
        profiles: Profiles::new(BTreeMap::new(), secrets.clone()),
        secrets,
        guardrails: Guardrails::none(),
        accounts: BTreeMap::new(),
        dormant: BTreeSet::new(),
        derived_data: BTreeSet::new(),
        node_prices: BTreeMap::new(),
        node_maxima: BTreeMap::new(),
        live_trading: false,
        two_person: false,
        production: false,
        approval_ttl: Duration::from_secs(3600),
        permit_ttl: Duration::from_secs(3600),
        sources: Sources::default(),
    }
}
