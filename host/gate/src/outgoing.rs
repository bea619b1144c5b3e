//! Requests of plugins to hosts other than QuantConnect's; each one is decided like a call.
//!
//! The caller dials and sends; this module decides whether it may, within which bounds, and which secrets
//! go into its headers.
//!
//! Invariant: a request that may change something is recorded on disk before its permission is returned.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use qchost_audit::{Entry, Kind};
use qchost_catalog::{Access, Failure};
use qchost_ledger::Settlement;
use qchost_policy::{Authority, Facts, HttpGrant, Resource};
use qchost_secrets::Setting;
use qchost_traffic::ConcurrencyGuard;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

use crate::authorize::{Authorizer, decide_all};
use crate::body::CallBody;
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::decision::{Matched, Refused};
use crate::policy::EffectivePolicy;
use crate::record::{self, AuditContext};
use crate::refusal::{Refusal, unrecorded};
use crate::reserve::Reserver;
use crate::settings::Settings;
use crate::throttle::Throttle;

/// A request that a plugin wants to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// `GET`, `POST`, …
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host name or address as in the URL.
    pub host: String,
    /// The port, even if it is the scheme's default.
    pub port: u16,
    /// The path with its leading slash, without the query.
    pub path: String,
}

/// Permission for one request, with its bounds. A permission that is dropped unfinished is recorded as
/// abandoned.
#[derive(Debug)]
pub struct RequestPermission {
    /// Headers to set, replacing the plugin's own of the same names.
    pub headers: Vec<(String, SecretString)>,
    /// Private addresses that may be dialled.
    pub addresses: Vec<IpAddr>,
    /// Maximum bytes of the request body.
    pub request: u64,
    /// Maximum bytes of the response body.
    pub response: u64,
    /// Time limit of the whole request.
    pub timeout: Duration,
    record: Option<Record>,
    _concurrency: Vec<ConcurrencyGuard>,
}

struct Record {
    requests: Arc<OutgoingRequests>,
    request: Arc<CallRequest>,
    facts: Facts,
    /// The grants that allowed it.
    matched: Matched,
    body: CallBody,
    reservation: Option<i64>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("call", &self.request.call)
            .finish_non_exhaustive()
    }
}

impl RequestPermission {
    /// Checks that the request may still be sent: a halt or another manifest may have come into force
    /// while the host resolved the name and connected. Call it right before the bytes go out.
    ///
    /// # Errors
    /// When it is halted, or no longer allowed. Nothing may be sent then.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.record.as_ref().map_or(Ok(()), Record::clear)
    }

    /// Records how the request ended: a status, or why there is none, and the bytes of both bodies.
    pub fn finish(mut self, status: Result<u16, String>, sent: u64, received: u64) {
        if let Some(record) = self.record.take() {
            record.end(Some(status), sent, received);
        }
    }
}

impl Drop for RequestPermission {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.end(None, 0, 0);
        }
    }
}

impl Outgoing {
    pub(crate) fn access(&self) -> Access {
        match self.method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => Access::Read,
            _ => Access::Write,
        }
    }

    /// What is recorded of it.
    pub(crate) fn arguments(&self) -> Map<String, Value> {
        let Self {
            method,
            scheme,
            host,
            port,
            path,
        } = self;
        Map::from_iter([
            ("method".to_owned(), method.as_str().into()),
            (
                "url".to_owned(),
                format!("{scheme}://{host}:{port}{path}").into(),
            ),
        ])
    }
}

impl Record {
    fn clear(&self) -> Result<(), Refusal> {
        let (authorizer, request) = (&self.requests.authorizer, &self.request);
        authorizer.check_halt(request)?;
        if authorizer.is_current(request) {
            return Ok(());
        }
        let policy = authorizer.policy_of(&request.principal)?;
        let matched = decide_all(&policy, request, std::slice::from_ref(&self.facts))
            .map_err(|refused| refused.internal)?;
        // Its bounds, addresses and headers are those of its grants.
        if out_by(&policy, &matched).eq(out_by(&request.policy, &self.matched)) {
            Ok(())
        } else {
            Err(Refusal::Failed(Failure::Unavailable(
                "the grants of this request changed while it was prepared, so nothing was sent; make it again"
                    .to_owned(),
            )))
        }
    }

    fn end(mut self, status: Option<Result<u16, String>>, sent: u64, received: u64) {
        let body = &mut self.body;
        let outcome = match status {
            Some(Ok(status)) => {
                body.status = Some(status);
                "answered"
            }
            Some(Err(message)) => {
                body.reason = Some(message);
                "failed"
            }
            None => "abandoned",
        };
        body.outcome = Some(Some(outcome.to_owned()));
        body.bytes_sent = Some(sent);
        body.bytes_received = Some(received);
        body.latency_us = Some(record::latency(&self.request));
        let (requests, reservation) = (Arc::clone(&self.requests), self.reservation);
        let (call, writes) = (
            self.request.call.clone(),
            self.request.access != Access::Read,
        );
        let kind = if writes { Kind::Outcome } else { Kind::Http };
        let entry = Entry::new(kind, false, &self.body);
        if !writes && reservation.is_none() {
            requests.log.audit.note(entry);
            return;
        }
        self.requests.tasks.spawn(async move {
            // A request that was let out counts, however it ended.
            requests
                .reserver
                .settle(&call, reservation, Settlement::Commit)
                .await;
            if let Err(error) = requests.log.audit.record(entry).await {
                tracing::error!(target: "gate", %error, "the outcome of a request is not recorded");
            }
        });
    }
}

/// The grants of one manifest for other hosts, by index.
fn http_grants<'a>(
    authority: &'a Authority,
    indexes: &'a [usize],
) -> impl Iterator<Item = &'a HttpGrant> + Clone {
    let grants = &authority.manifest().http;
    indexes.iter().filter_map(|index| grants.get(*index))
}

/// All grants that a request uses.
fn out_by<'a>(
    policy: &'a EffectivePolicy,
    matched: &'a Matched,
) -> impl Iterator<Item = &'a HttpGrant> {
    let serving = http_grants(&policy.authority, &matched.grants);
    let pending = policy.pending.iter();
    serving.chain(pending.flat_map(|pending| http_grants(pending, &matched.pending)))
}

/// Decides about requests of plugins to other hosts.
pub(crate) struct OutgoingRequests {
    pub authorizer: Arc<Authorizer>,
    pub throttle: Arc<Throttle>,
    pub reserver: Reserver,
    pub log: Arc<CallLog>,
    /// Held by each request from its reservation to its intent, and by a backup.
    pub writing: Arc<RwLock<()>>,
    pub tasks: TaskTracker,
}

impl OutgoingRequests {
    /// Decides about a request, and records a refusal.
    ///
    /// # Errors
    /// As for a call; nothing was resolved and nothing sent then.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        request: Arc<CallRequest>,
        outgoing: Outgoing,
    ) -> Result<RequestPermission, Refusal> {
        let decided = self.pass_out(&request, outgoing).await;
        decided.map_err(|refused| {
            let context = AuditContext {
                guardrails: &refused.guardrails,
                ..AuditContext::default()
            };
            self.log.note_refusal(&request, &context, &refused.internal);
            refused.internal
        })
    }

    async fn pass_out(
        self: &Arc<Self>,
        request: &Arc<CallRequest>,
        outgoing: Outgoing,
    ) -> Result<RequestPermission, Refused> {
        self.authorizer.check_halt(request)?;
        let facts = Facts::of(Resource::Url {
            scheme: outgoing.scheme,
            host: outgoing.host,
            port: outgoing.port,
            path: outgoing.path,
            method: outgoing.method,
        });
        let matched = decide_all(&request.policy, request, std::slice::from_ref(&facts))?;
        let concurrency = self.throttle.charge(request, &matched).await?;
        let mut permission = bounds(&request.policy, &matched).await?;
        permission._concurrency = concurrency;
        let writing = self.writing.read().await;
        let reservation = self.reserver.begin(request, &matched, 0, None).await?;
        let context = AuditContext {
            matched: Some(&matched),
            reservation,
            ..AuditContext::default()
        };
        let intent = record::intent(request, &context, &self.log.fingerprints);
        let writes = request.access != Access::Read;
        if writes && let Err(error) = self.log.audit.record(intent.entry()).await {
            self.reserver
                .settle(&request.call, reservation, Settlement::Release)
                .await;
            return Err(unrecorded(&error).into());
        }
        drop(writing);
        permission.record = Some(Record {
            requests: Arc::clone(self),
            request: Arc::clone(request),
            facts,
            matched,
            body: intent.body,
            reservation,
        });
        Ok(permission)
    }
}

/// The bounds of a request: of each bound the narrowest of all matching grants, and only those
/// addresses and headers that a changed manifest gives as well.
async fn bounds(policy: &EffectivePolicy, matched: &Matched) -> Result<RequestPermission, Refusal> {
    let changed: Option<Vec<&HttpGrant>> = policy
        .pending
        .as_ref()
        .map(|pending| http_grants(pending, &matched.pending).collect());
    let mut permission = RequestPermission {
        headers: Vec::new(),
        addresses: Vec::new(),
        request: u64::MAX,
        response: u64::MAX,
        timeout: Duration::MAX,
        record: None,
        _concurrency: Vec::new(),
    };
    let agreed = |has: &dyn Fn(&HttpGrant) -> bool| {
        let changed = changed.as_ref();
        changed.is_none_or(|grants| grants.iter().any(|grant| has(grant)))
    };
    let serving = http_grants(&policy.authority, &matched.grants);
    let bounding = changed.iter().flatten().copied();
    for grant in serving.clone().chain(bounding) {
        permission.request = permission.request.min(grant.request);
        permission.response = permission.response.min(grant.response);
        permission.timeout = permission.timeout.min(grant.timeout);
    }
    for grant in serving {
        let addresses = grant.addresses.iter().copied();
        let addresses = addresses.filter(|one| agreed(&|grant| grant.addresses.contains(one)));
        permission.addresses.extend(addresses);
        for (name, value) in &grant.headers {
            if !agreed(&|grant| grant.headers.get(name) == Some(value)) {
                continue;
            }
            let secret = header(&policy.settings, value).await.map_err(|why| {
                Refusal::Failed(Failure::Unavailable(format!(
                    "the header `{name}` of the grant `{}` cannot be read: {why}",
                    grant.name
                )))
            })?;
            permission.headers.push((name.clone(), secret));
        }
    }
    Ok(permission)
}

async fn header(settings: &Settings, value: &Value) -> Result<SecretString, String> {
    match Setting::try_from(value.clone())? {
        Setting::Plain(Value::String(text)) => Ok(settings.secrets.literal(&text)),
        Setting::Plain(_) => Err("it is no text".to_owned()),
        Setting::Secret(source) => {
            let secret = settings.secrets.read(&source).await;
            secret.map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Callee, HTTP};
    use crate::testing::Stores;

    const HOOKS: &str =
        "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example/\"\nmethods = [\"POST\"]\n";

    async fn decide(stores: &Stores, host: &str) -> Result<RequestPermission, Refusal> {
        let requests = Arc::new(OutgoingRequests {
            authorizer: stores.authorizer(),
            throttle: stores.throttle(),
            reserver: stores.reserver(),
            log: stores.log(),
            writing: Arc::default(),
            tasks: stores.tasks.clone(),
        });
        let outgoing = Outgoing {
            method: "POST".to_owned(),
            scheme: "https".to_owned(),
            host: host.to_owned(),
            port: 443,
            path: "/".to_owned(),
        };
        let callee = Callee::service(HTTP, outgoing.access());
        let request = stores.request_to(callee, Value::Object(outgoing.arguments()));
        requests.decide(Arc::new(request), outgoing).await
    }

    #[tokio::test]
    async fn a_request_that_may_change_something_is_recorded_before_it_is_permitted() {
        let stores = Stores::new(HOOKS).await;
        let permission = decide(&stores, "hooks.example").await.unwrap();
        assert_eq!(stores.kinds().await, ["intent"]);
        permission.clear().unwrap();
        permission.finish(Ok(200), 1, 2);
        stores.tasks.close();
        stores.tasks.wait().await;
        assert_eq!(stores.kinds().await, ["intent", "outcome"]);
    }

    #[tokio::test]
    async fn a_request_to_another_host_is_denied_and_recorded() {
        let stores = Stores::new(HOOKS).await;
        let refusal = decide(&stores, "other.example").await.unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
        assert_eq!(stores.kinds().await, ["denied"]);
    }

    #[tokio::test]
    async fn a_request_whose_grant_is_gone_may_not_be_sent() {
        let stores = Stores::new(HOOKS).await;
        let permission = decide(&stores, "hooks.example").await.unwrap();
        stores.install("[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\n");
        let refusal = permission.clear().unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
    }
}
