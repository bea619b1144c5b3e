//! The stores of a gate without its stages, for tests that construct one stage by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_audit::{Audit, Disk, Filter, Options, query};
use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream, by_name};
use qchost_ledger::Ledger;
use qchost_policy::{Guardrails, Manifest};
use qchost_secrets::{Profiles, Secrets};
use qchost_traffic::{AccountLimits, AccountQueues, CpuMeter, GrantRates, Moment};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::audit_quota::AuditQuotas;
use crate::authorize::Authorizer;
use crate::call::{CallRequest, Principal};
use crate::changes::Changes;
use crate::decision::{CallDecision, Matched};
use crate::fingerprint::Fingerprints;
use crate::halts::Halts;
use crate::policy_store::PolicyStore;
use crate::read_limits::ReadLimits;
use crate::reads::HostReader;
use crate::refusal_log::RefusalLog;
use crate::settings::{Settings, Sources};
use crate::unsettled::UnsettledWrites;

/// A connection that names project `1` "Lab/one", answers all other calls with success, and keeps the names of its
/// tools that were called.
#[derive(Default)]
pub(crate) struct Cloud(Mutex<Vec<String>>);

impl Cloud {
    pub(crate) fn sent(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

impl Upstream for Cloud {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            call.clearance.clear()?;
            let tool = call.target.tool().to_owned();
            self.0.lock().push(tool.clone());
            let project = call.arguments.get("projectId").and_then(Value::as_u64);
            match (tool.as_str(), project) {
                ("read_project", Some(1)) => Ok(
                    json!({ "success": true, "projects": [{ "projectId": 1, "name": "Lab/one" }] }),
                ),
                ("read_project", _) => Err(Failure::NotFound("no such project".to_owned())),
                _ => Ok(json!({ "success": true })),
            }
        })
    }

    fn download<'a>(
        &'a self,
        _account: &'a str,
        _url: &'a str,
        _limit: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Err(Failure::NotFound("nothing here".to_owned())) })
    }
}

/// The stores, with one plugin, `lab`, on the account `a`.
pub(crate) struct Stores {
    pub cloud: Arc<Cloud>,
    pub ledger: Ledger,
    pub audit: Audit,
    pub fingerprints: Arc<Fingerprints>,
    pub policies: Arc<PolicyStore>,
    pub halts: Arc<Halts>,
    pub rates: Arc<GrantRates>,
    pub queues: Arc<AccountQueues>,
    pub tasks: TaskTracker,
    folder: TempDir,
}

impl Stores {
    /// `grants`: those of the plugin, as TOML.
    pub(crate) async fn new(grants: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            folder: folder.path().join("audit"),
            key: vec![7; 32].into(),
            segment_bytes: 1 << 20,
            keep: None,
            reserve_bytes: 0,
            anchor: None,
            files: Arc::new(Disk),
        };
        let (audit, _) = Audit::open(options, None).unwrap();
        let ledger = Ledger::in_memory().unwrap();
        let fingerprints = Arc::new(Fingerprints::new(vec![7; 32].into()));
        let tasks = TaskTracker::new();
        let changes = Arc::new(Changes::new(
            audit.clone(),
            ledger.clone(),
            Arc::clone(&fingerprints),
            tasks.clone(),
            BTreeMap::new(),
            BTreeMap::new(),
        ));
        let settings = changes.keep_settings(settings());
        let policies = Arc::new(PolicyStore::new(settings, Arc::clone(&changes)));
        policies.install(manifest(grants)).unwrap();
        let rates = GrantRates::open(ledger.clone(), Moment::now())
            .await
            .unwrap();
        Self {
            cloud: Arc::default(),
            ledger,
            audit,
            fingerprints,
            policies,
            halts: Arc::new(Halts::new(None)),
            rates: Arc::new(rates),
            queues: Arc::new(AccountQueues::new([(
                "a".to_owned(),
                AccountLimits::default(),
            )])),
            tasks,
            folder,
        }
    }

    /// A call of the plugin under its policy.
    pub(crate) fn request(&self, operation: &str, arguments: Value) -> CallRequest {
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        let principal = Principal {
            plugin: "lab".into(),
            digest: "sha256:0".into(),
            invocation: "1".into(),
            person: None,
            cpu: CpuMeter::default(),
            log_limiter: Arc::default(),
        };
        let policy = self.policies.of("lab").unwrap();
        let operation = by_name(operation).unwrap();
        CallRequest::new(
            "1-0".to_owned(),
            principal,
            policy,
            operation.into(),
            arguments,
        )
    }

    /// Replaces the plugin's grants.
    pub(crate) fn install(&self, grants: &str) {
        self.policies.install(manifest(grants)).unwrap();
    }

    pub(crate) fn authorizer(&self) -> Arc<Authorizer> {
        Arc::new(Authorizer {
            policies: Arc::clone(&self.policies),
            halts: Arc::clone(&self.halts),
            audit_quotas: Arc::new(AuditQuotas::new(u64::MAX)),
            unsettled: self.unsettled(),
        })
    }

    pub(crate) fn unsettled(&self) -> Arc<UnsettledWrites> {
        let fingerprints = Arc::clone(&self.fingerprints);
        Arc::new(UnsettledWrites::new(&[], fingerprints))
    }

    pub(crate) fn reads(&self) -> Arc<HostReader> {
        let upstream: Arc<dyn Upstream> = Arc::<Cloud>::clone(&self.cloud);
        let limits = ReadLimits::new(Arc::clone(&self.rates), self.ledger.clone());
        Arc::new(HostReader {
            upstream,
            queues: Arc::clone(&self.queues),
            limits: Arc::new(limits),
            call_timeout: Duration::from_secs(10),
        })
    }

    pub(crate) fn refusals(&self) -> Arc<RefusalLog> {
        let fingerprints = Arc::clone(&self.fingerprints);
        Arc::new(RefusalLog::new(self.audit.clone(), fingerprints))
    }

    /// The records of calls and approvals so far, each with its kind.
    pub(crate) async fn records(&self) -> Vec<Map<String, Value>> {
        self.audit.flush().await.unwrap();
        let folder = self.folder.path().join("audit");
        let records = query(Arc::new(Disk), &folder, Filter::default()).unwrap();
        let records = records.map(|record| record.unwrap());
        let changes = |kind: Option<&str>| kind == Some("change");
        let records = records.filter(|record| !changes(record.kind_word()));
        records.map(|record| record.fields).collect()
    }
}

/// A decision that the first grant allows a call which touches nothing.
pub(crate) fn allowed(touched: qchost_scope::Touched) -> CallDecision {
    CallDecision {
        touched,
        matched: Matched {
            grants: vec![0],
            pending: Vec::new(),
        },
        permit: None,
    }
}

pub(crate) fn manifest(grants: &str) -> Manifest {
    let text = format!("plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n{grants}");
    Manifest::parse(&text, Path::new("lab.toml")).unwrap()
}

pub(crate) fn settings() -> Settings {
    let secrets = Secrets::new(None).unwrap();
    Settings {
        profiles: Profiles::new(BTreeMap::new(), secrets.clone()),
        secrets,
        guardrails: Guardrails::none(),
        accounts: [("a".to_owned(), AccountLimits::default())].into(),
        dormant: std::collections::BTreeSet::new(),
        node_prices: BTreeMap::new(),
        live_trading: false,
        two_person: false,
        production: false,
        approval_ttl: Duration::from_secs(3600),
        permit_ttl: Duration::from_secs(3600),
        sources: Sources::default(),
    }
}
