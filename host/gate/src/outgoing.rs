//! Requests of plugins to hosts other than QuantConnect's; each one is decided like a call.
//!
//! The caller dials and sends; this module decides whether it may, within which bounds, and which secrets
//! go into its headers.
//!
//! Invariant: a request that may change something is recorded on disk before its passage is returned.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use qchost_audit::{Entry, Kind};
use qchost_catalog::{Access, Failure};
use qchost_ledger::{Begin, Charge, Settle};
use qchost_policy::{Authority, Facts, HttpGrant, Resource};
use qchost_secrets::Setting;
use qchost_traffic::Slot;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::ask::{Ask, Caller, HTTP};
use crate::gate::{Gate, now};
use crate::judge::{Matched, Refused, decide_all};
use crate::obligations::obligations;
use crate::record::{self, Known};
use crate::refusal::Refusal;
use crate::reservations::exhausted;
use crate::sending::unrecorded;
use crate::settings::Settings;
use crate::terms::Terms;

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

/// Permission for one request, with its bounds. A passage that is dropped unfinished is recorded as
/// abandoned.
#[derive(Debug)]
pub struct Passage {
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
    _slots: Vec<Slot>,
}

struct Record {
    gate: Gate,
    ask: Arc<Ask>,
    facts: Facts,
    /// The grants that allowed it.
    matched: Matched,
    body: Map<String, Value>,
    reservation: Option<i64>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("call", &self.ask.call)
            .finish_non_exhaustive()
    }
}

impl Passage {
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

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.end(None, 0, 0);
        }
    }
}

impl Record {
    fn clear(&self) -> Result<(), Refusal> {
        let (gate, ask) = (&self.gate, &self.ask);
        if ask.halted()
            && let Some(reason) = gate.0.halts.reason(ask.account(), &ask.caller.plugin)
        {
            return Err(Refusal::Halted(reason));
        }
        if gate.still(ask) {
            return Ok(());
        }
        let terms = gate.terms(&ask.caller)?;
        let matched = decide_all(&terms, ask, std::slice::from_ref(&self.facts))
            .map_err(|refused| refused.refusal)?;
        // Its bounds, addresses and headers are those of its grants.
        if out_by(&terms, &matched).eq(out_by(&ask.terms, &self.matched)) {
            Ok(())
        } else {
            Err(Refusal::Failed(Failure::Unavailable(
                "the grants of this request changed while it was prepared, so nothing was sent; make it again"
                    .to_owned(),
            )))
        }
    }

    fn end(mut self, status: Option<Result<u16, String>>, sent: u64, received: u64) {
        let mut put = |name: &str, value: Value| self.body.insert(name.to_owned(), value);
        match status {
            Some(Ok(status)) => {
                put("outcome", "answered".into());
                put("status", status.into());
            }
            Some(Err(message)) => {
                put("outcome", "failed".into());
                put("reason", message.into());
            }
            None => {
                put("outcome", "abandoned".into());
            }
        }
        put("bytes-sent", sent.into());
        put("bytes-received", received.into());
        let latency = u64::try_from(self.ask.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        put("latency-us", latency.into());
        let (gate, reservation) = (self.gate.clone(), self.reservation);
        let (call, writes) = (self.ask.call.clone(), self.ask.access != Access::Read);
        let entry = Entry {
            kind: if writes { Kind::Outcome } else { Kind::Http },
            essential: false,
            body: self.body,
        };
        if !writes && reservation.is_none() {
            gate.audit().note(entry);
            return;
        }
        self.gate.spawn(async move {
            // A request that was let out counts, however it ended.
            gate.settle(&call, reservation, Settle::Commit).await;
            if let Err(error) = gate.audit().record(entry).await {
                tracing::error!(target: "gate", %error, "the outcome of a request is not recorded");
            }
        });
    }
}

/// The grants of one manifest for other hosts, by index.
fn http_grants<'a>(
    authority: &'a Authority,
    places: &'a [usize],
) -> impl Iterator<Item = &'a HttpGrant> + Clone {
    let grants = &authority.manifest().http;
    places.iter().filter_map(|at| grants.get(*at))
}

/// All grants that a request uses.
fn out_by<'a>(terms: &'a Terms, matched: &'a Matched) -> impl Iterator<Item = &'a HttpGrant> {
    let serving = http_grants(&terms.authority, &matched.grants);
    let pending = terms.pending.iter();
    serving.chain(pending.flat_map(|pending| http_grants(pending, &matched.pending)))
}

impl Gate {
    /// Decides about a plugin's request to another host, charged to the plugin.
    ///
    /// # Errors
    /// As for a call; nothing was resolved and nothing sent then.
    pub async fn outgoing(&self, caller: &Caller, request: Outgoing) -> Result<Passage, Refusal> {
        let deciding = pin!(self.decide_out(caller, request));
        caller.effort.charge(deciding).await
    }

    async fn decide_out(&self, caller: &Caller, request: Outgoing) -> Result<Passage, Refusal> {
        let writes = !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        let access = if writes { Access::Write } else { Access::Read };
        let mut arguments = Map::new();
        arguments.insert("method".to_owned(), request.method.as_str().into());
        let url = format!(
            "{}://{}:{}{}",
            request.scheme, request.host, request.port, request.path
        );
        arguments.insert("url".to_owned(), url.into());
        let ask = self.ask(
            caller,
            None,
            Cow::Borrowed(HTTP),
            Cow::Borrowed(HTTP),
            access,
            arguments,
        )?;
        let ask = Arc::new(ask);
        match self.pass_out(&ask, request).await {
            Ok(passage) => Ok(passage),
            Err(Refused {
                refusal,
                guardrails,
                ..
            }) => {
                let known = Known {
                    guardrails: &guardrails,
                    ..Known::default()
                };
                self.note_refusal(&ask, &known, &refusal);
                Err(refusal)
            }
        }
    }

    async fn pass_out(&self, ask: &Arc<Ask>, request: Outgoing) -> Result<Passage, Refused> {
        if ask.halted()
            && let Some(reason) = self.0.halts.reason(ask.account(), &ask.caller.plugin)
        {
            return Err(Refusal::Halted(reason).into());
        }
        let facts = Facts::of(Resource::Url {
            scheme: request.scheme,
            host: request.host,
            port: request.port,
            path: request.path,
            method: request.method,
        });
        let matched = decide_all(&ask.terms, ask, std::slice::from_ref(&facts))?;
        let slots = self.slots(ask, &matched).await?;
        let mut passage = self.bounds(&ask.terms, &matched).await?;
        passage._slots = slots;
        let writing = self.0.writing.read().await;
        let reservation = self.reserve_request(ask, &matched).await?;
        let known = Known {
            matched: Some(&matched),
            reservation,
            ..Known::default()
        };
        let intent = record::intent(ask, &known, &self.0.prints);
        let body = intent.body.clone();
        let writes = ask.access != Access::Read;
        if writes && let Err(error) = self.0.audit.record(intent).await {
            self.settle(&ask.call, reservation, Settle::Release).await;
            return Err(unrecorded(&error).into());
        }
        drop(writing);
        passage.record = Some(Record {
            gate: self.clone(),
            ask: Arc::clone(ask),
            facts,
            matched,
            body,
            reservation,
        });
        Ok(passage)
    }

    /// The bounds of a request: of each bound the narrowest of all matching grants, and only those
    /// addresses and headers that a changed manifest gives as well.
    async fn bounds(&self, terms: &Terms, matched: &Matched) -> Result<Passage, Refusal> {
        let changed: Option<Vec<&HttpGrant>> = terms
            .pending
            .as_ref()
            .map(|pending| http_grants(pending, &matched.pending).collect());
        let mut passage = Passage {
            headers: Vec::new(),
            addresses: Vec::new(),
            request: u64::MAX,
            response: u64::MAX,
            timeout: Duration::MAX,
            record: None,
            _slots: Vec::new(),
        };
        let agreed = |has: &dyn Fn(&HttpGrant) -> bool| {
            let changed = changed.as_ref();
            changed.is_none_or(|grants| grants.iter().any(|grant| has(grant)))
        };
        let serving = http_grants(&terms.authority, &matched.grants);
        let bounding = changed.iter().flatten().copied();
        for grant in serving.clone().chain(bounding) {
            passage.request = passage.request.min(grant.request);
            passage.response = passage.response.min(grant.response);
            passage.timeout = passage.timeout.min(grant.timeout);
        }
        for grant in serving {
            let addresses = grant.addresses.iter().copied();
            let addresses = addresses.filter(|one| agreed(&|grant| grant.addresses.contains(one)));
            passage.addresses.extend(addresses);
            for (name, value) in &grant.headers {
                if !agreed(&|grant| grant.headers.get(name) == Some(value)) {
                    continue;
                }
                let secret = self.header(&terms.settings, value).await.map_err(|why| {
                    Refusal::Failed(Failure::Unavailable(format!(
                        "the header `{name}` of the grant `{}` cannot be read: {why}",
                        grant.name
                    )))
                })?;
                passage.headers.push((name.clone(), secret));
            }
        }
        Ok(passage)
    }

    async fn header(&self, settings: &Settings, value: &Value) -> Result<SecretString, String> {
        match Setting::try_from(value.clone())? {
            Setting::Plain(Value::String(text)) => Ok(settings.secrets.literal(&text)),
            Setting::Plain(_) => Err("it is no text".to_owned()),
            Setting::Secret(source) => {
                let secret = settings.secrets.read(&source).await;
                secret.map_err(|error| error.to_string())
            }
        }
    }

    async fn reserve_request(&self, ask: &Ask, matched: &Matched) -> Result<Option<i64>, Refusal> {
        let charges: Vec<Charge> = obligations(ask, matched)
            .filter(|(_, limits)| limits.per_day.is_some())
            .map(|(grant, limits)| Charge {
                grant: grant.into_owned(),
                per_day: limits.per_day,
                cost: 0,
                cost_per_day: None,
            })
            .collect();
        if charges.is_empty() {
            return Ok(None);
        }
        let begin = Begin {
            call: ask.call.clone(),
            account: ask.account().to_owned(),
            plugin: ask.caller.plugin.to_string(),
            now: now(),
            charges,
            permit: None,
        };
        let ledger = &self.0.ledger;
        ledger.begin(begin).await.map(Some).map_err(exhausted)
    }
}
