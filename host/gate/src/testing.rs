//! The stores of a gate without its stages, for tests that construct one stage by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_audit::{Audit, Disk, Filter, Options, query};
use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_ledger::Ledger;
use qchost_policy::{Guardrails, Manifest};
use qchost_secrets::{Profiles, Secrets};
use qchost_traffic::{AccountLimits, AccountQueues, GrantRates, Moment};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::admission::AdmittedCall;
use crate::adoption::Adoptions;
use crate::approval_requests::ApprovalRequests;
use crate::approve::Approver;
use crate::audit_quota::AuditQuotas;
use crate::authorize::Authorizer;
use crate::call::{CallIds, CallRequest, Callee, Principal};
use crate::call_log::CallLog;
use crate::changes::Changes;
use crate::components::Components;
use crate::decision::{CallDecision, Matched};
use crate::evidence::EvidenceStage;
use crate::fingerprint::Fingerprints;
use crate::halts::Halts;
use crate::invocation_approvals::InvocationApprovals;
use crate::paper::PaperEvidence;
use crate::policy_store::PolicyStore;
use crate::proposals::Proposals;
use crate::read_limits::ReadLimits;
use crate::reads::HostReader;
use crate::reserve::Reserver;
use crate::settings::{Settings, Sources};
use crate::source_locks::SourceLocks;
use crate::sources::{SourceGuard, SourceGuards};
use crate::throttle::{CallGuards, Throttle};
use crate::trade::TradeRules;
use crate::unsettled::UnsettledWrites;

/// A connection that names project `1` "Lab/one" and answers all other calls with success. It keeps the names of its
/// tools that were called.
#[derive(Default)]
pub(crate) struct Cloud {
    sent: Mutex<Vec<String>>,
    /// The content of the project's only file.
    pub file: Mutex<String>,
    /// The archive of every object; none is ready without it.
    pub archive: Mutex<Vec<u8>>,
}

impl Cloud {
    pub(crate) fn sent(&self) -> Vec<String> {
        self.sent.lock().clone()
    }
}

impl Upstream for Cloud {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            call.clearance.clear()?;
            let tool = call.target.tool().to_owned();
            self.sent.lock().push(tool.clone());
            let project = call.arguments.get("projectId").and_then(Value::as_u64);
            match (tool.as_str(), project) {
                ("read_project", Some(1)) => {
                    let project = json!({ "projectId": 1, "name": "Lab/one", "libraries": [] });
                    Ok(json!({ "success": true, "projects": [project] }))
                }
                ("read_project", _) => Err(Failure::NotFound("no such project".to_owned())),
                ("read_file", _) => {
                    let file = json!({ "name": "main.py", "content": *self.file.lock() });
                    Ok(json!({ "success": true, "files": [file] }))
                }
                ("read_object_store_file_job_id", _) => {
                    Ok(json!({ "success": true, "url": "https://objects.example/1" }))
                }
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
        Box::pin(async move { Ok(self.archive.lock().clone()) })
    }

    fn has_tool(&self, _account: &str, tool: &str) -> Option<bool> {
        Some(tool == "new_tool")
    }
}

/// The stores, with one plugin, `lab`, on the account `a`.
pub(crate) struct Stores {
    pub cloud: Arc<Cloud>,
    pub ledger: Ledger,
    pub audit: Audit,
    pub fingerprints: Arc<Fingerprints>,
    pub policies: Arc<PolicyStore>,
    pub changes: Arc<Changes>,
    pub halts: Arc<Halts>,
    pub rates: Arc<GrantRates>,
    pub queues: Arc<AccountQueues>,
    pub tasks: TaskTracker,
    folder: TempDir,
}

impl Stores {
    /// `grants`: those of the plugin, as TOML.
    pub(crate) async fn new(grants: &str) -> Self {
        Self::with(grants, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(grants: &str, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        set(&mut settings);
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
        let queues = Arc::new(AccountQueues::new(settings.accounts.clone()));
        let settings = changes.keep_settings(settings);
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
            changes,
            halts: Arc::new(Halts::new(None)),
            rates: Arc::new(rates),
            queues,
            tasks,
            folder,
        }
    }

    /// A call of the plugin under its policy, to an operation, a service or a tool.
    pub(crate) fn request(&self, name: &str, arguments: Value) -> CallRequest {
        self.request_to(Callee::named(name).unwrap(), arguments)
    }

    pub(crate) fn request_to(&self, callee: Callee, arguments: Value) -> CallRequest {
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        let principal = Principal::new("lab", "sha256:0", "1");
        let policy = self.policies.of("lab").unwrap();
        CallRequest::new("1-0".to_owned(), principal, policy, callee, arguments)
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

    pub(crate) fn sources(&self) -> Arc<SourceGuards> {
        Arc::new(SourceGuards {
            locks: SourceLocks::default(),
            reads: self.reads(),
            policies: Arc::clone(&self.policies),
            ledger: self.ledger.clone(),
            log: self.log(),
            ids: Arc::new(CallIds::new(1)),
        })
    }

    pub(crate) fn evidence(&self) -> Arc<EvidenceStage> {
        Arc::new(EvidenceStage {
            source: None,
            guards: self.sources(),
        })
    }

    pub(crate) fn paper(&self) -> Arc<PaperEvidence> {
        Arc::new(PaperEvidence::new(self.ledger.clone(), Vec::new()))
    }

    pub(crate) fn reserver(&self) -> Reserver {
        Reserver {
            ledger: self.ledger.clone(),
            log: self.log(),
        }
    }

    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        let (rates, queues) = (Arc::clone(&self.rates), Arc::clone(&self.queues));
        Arc::new(Throttle::new(rates, queues))
    }

    pub(crate) fn requests(&self) -> Arc<ApprovalRequests> {
        let (ledger, audit) = (self.ledger.clone(), self.audit.clone());
        Arc::new(ApprovalRequests::new(
            ledger,
            audit,
            Arc::clone(&self.policies),
        ))
    }

    pub(crate) fn approver(&self) -> Arc<Approver> {
        let (requests, tasks) = (self.requests(), self.tasks.clone());
        let ledger = self.ledger.clone();
        let invocations = InvocationApprovals::new(ledger.clone(), Arc::clone(&requests), tasks);
        Arc::new(Approver {
            ledger,
            fingerprints: Arc::clone(&self.fingerprints),
            requests,
            invocations: Arc::new(invocations),
        })
    }

    pub(crate) fn trade(&self) -> Arc<TradeRules> {
        let requests = self.requests();
        let proposals = Arc::new(Proposals {
            ledger: self.ledger.clone(),
            policies: Arc::clone(&self.policies),
            changes: Arc::clone(&self.changes),
            fingerprints: Arc::clone(&self.fingerprints),
            rates: Arc::clone(&self.rates),
            requests: Arc::clone(&requests),
            gone: Mutex::default(),
            adopting: AtomicBool::new(false),
            tasks: self.tasks.clone(),
        });
        let adoptions = Adoptions {
            ledger: self.ledger.clone(),
            policies: Arc::clone(&self.policies),
            changes: Arc::clone(&self.changes),
            fingerprints: Arc::clone(&self.fingerprints),
            components: Components::default(),
            requests,
            proposals,
        };
        Arc::new(TradeRules {
            ledger: self.ledger.clone(),
            paper: self.paper(),
            adoptions: Arc::new(adoptions),
        })
    }

    pub(crate) fn log(&self) -> Arc<CallLog> {
        let fingerprints = Arc::clone(&self.fingerprints);
        Arc::new(CallLog::new(self.audit.clone(), fingerprints))
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

    /// The kinds of these records.
    pub(crate) async fn kinds(&self) -> Vec<String> {
        let records = self.records().await;
        let kinds = records.iter().filter_map(|record| record["kind"].as_str());
        kinds.map(str::to_owned).collect()
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

/// A call that was admitted by this decision, and that holds nothing.
pub(crate) fn admitted_call(touched: qchost_scope::Touched) -> AdmittedCall {
    AdmittedCall {
        decision: allowed(touched),
        guards: CallGuards {
            concurrency: Vec::new(),
            account_admission: None,
        },
        source: SourceGuard::default(),
        is_retry: false,
    }
}

pub(crate) fn manifest(grants: &str) -> Manifest {
    let text = format!(
        "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\negress = \"licensed\"\n{grants}"
    );
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
        derived_data: ["a".to_owned()].into(),
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
