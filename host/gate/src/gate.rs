//! The gate itself: decides, sends, and learns the outcome.
//!
//! Invariant: a call that was allowed runs to its end in a task of the gate's, whoever still waits for it.
//! Dropping the future of [`Gate::call`] loses the answer for the plugin and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use qchost_catalog::shape::Type;
use qchost_catalog::{Access, Call, Failure, Operation, Target, Upstream, always, by_name, by_tool};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::download;
use crate::grantable::{self, DOWNLOAD, RAW, WORKFLOW};
use crate::manifest::Manifest;
use crate::profiles::{Profiles, Secrets};
use crate::refusal::{Denial, Refusal};
use crate::state::StateStore;

/// Who calls: a plugin, by its name, its code and its invocation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The plugin's name, by which its manifest is found.
    pub plugin: Arc<str>,
    /// The hash of the component that runs: `sha256:…`.
    pub digest: Arc<str>,
    /// Identifies the invocation in logs.
    pub invocation: Arc<str>,
}

/// What the gate needs besides the connection.
#[derive(Debug)]
pub struct Options {
    /// Brokerage and data-provider profiles.
    pub profiles: Profiles,
    /// What plugins remember.
    pub state: StateStore,
    /// How long one call may take, whatever the plugin's own limits are: a write must be
    /// given the time to be answered even when its plugin is gone.
    pub call_timeout: Duration,
}

/// The gate. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    upstream: Box<dyn Upstream>,
    options: Options,
    manifests: RwLock<HashMap<String, Arc<Manifest>>>,
    sent: TaskTracker,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.0.sent.len())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate before a connection. No plugin may do anything yet.
    #[must_use]
    pub fn new(upstream: Box<dyn Upstream>, options: Options) -> Self {
        Self(Arc::new(Inner {
            upstream,
            options,
            manifests: RwLock::default(),
            sent: TaskTracker::new(),
        }))
    }

    /// Makes a manifest the current authority of its plugin, from the next call on.
    pub fn install(&self, manifest: Manifest) {
        let mut manifests = self
            .0
            .manifests
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        manifests.insert(manifest.plugin.clone(), Arc::new(manifest));
    }

    /// Takes a plugin's authority away, from the next call on.
    pub fn remove(&self, plugin: &str) {
        self.0
            .manifests
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(plugin);
    }

    /// The current manifest of a plugin.
    #[must_use]
    pub fn manifest(&self, plugin: &str) -> Option<Arc<Manifest>> {
        self.0
            .manifests
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(plugin)
            .cloned()
    }

    /// What plugins remember.
    #[must_use]
    pub fn state(&self) -> &StateStore {
        &self.0.options.state
    }

    /// Waits until every call that was sent has its outcome.
    pub async fn idle(&self) {
        self.0.sent.close();
        self.0.sent.wait().await;
        self.0.sent.reopen();
    }

    /// Makes a call. `arguments` are flat, under their JSON names. Returns the whole body.
    ///
    /// # Errors
    /// When the manifest does not allow it (nothing was sent then), or the connection gave no
    /// usable answer.
    pub async fn call(
        &self,
        caller: &Caller,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        let manifest = self.authorize(caller, operation.name, operation.access)?;
        check_names(operation, &arguments)?;
        let target = Target::Known(operation);
        let body = self
            .send(caller, &manifest.account, target, arguments)
            .await?;
        Ok(without_secrets(operation, body))
    }

    /// Makes a call of a tool by its name. A tool that the catalog knows is that operation.
    ///
    /// # Errors
    /// As [`call`](Self::call); a tool that the catalog does not know counts as trade, so it must
    /// be granted by its exact name.
    pub async fn call_raw(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Refusal> {
        if let Some(operation) = by_tool(tool) {
            return self.call(caller, operation, arguments).await;
        }
        let target = Target::Unknown(tool);
        let manifest = self.authorize(caller, &format!("{RAW}/{tool}"), target.access())?;
        Ok(self
            .send(caller, &manifest.account, target, arguments)
            .await?)
    }

    /// Reads an object's bytes, at most `limit` of them: prepares the download, waits for it and
    /// fetches it.
    ///
    /// # Errors
    /// As [`call`](Self::call); and when there is no such object, or it is larger than the limit.
    pub async fn download(
        &self,
        caller: &Caller,
        organization: &str,
        key: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let manifest = self.authorize(caller, DOWNLOAD, Access::Read)?;
        let deadline = Instant::now() + self.0.options.call_timeout;
        let flow = download::Flow {
            gate: self,
            caller,
            account: &manifest.account,
            organization,
            key,
            limit,
            deadline,
        };
        Ok(flow.run().await?)
    }

    /// Fetches what a download address serves, in a task of the gate's.
    pub(crate) async fn fetch(
        &self,
        account: &str,
        url: String,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let (inner, account) = (Arc::clone(&self.0), account.to_owned());
        let fetching = self.0.sent.spawn(async move {
            let upstream = inner.upstream.as_ref();
            upstream.download(&account, &url, limit, deadline).await
        });
        fetching.await.unwrap_or_else(|_| {
            Err(Failure::Unavailable(
                "the host failed while it fetched the object".to_owned(),
            ))
        })
    }

    /// Whether the plugin may have the host run batches for it.
    ///
    /// # Errors
    /// When its manifest does not allow it.
    pub fn check_workflow(&self, caller: &Caller) -> Result<(), Refusal> {
        self.authorize(caller, WORKFLOW, Access::Read)
            .map(drop)
            .map_err(Refusal::Denied)
    }

    /// Reads the manifest as it stands now and looks for a grant.
    fn authorize(
        &self,
        caller: &Caller,
        name: &str,
        access: Access,
    ) -> Result<Arc<Manifest>, Denial> {
        let denial = |reason, nearest_grant| Denial {
            reason,
            nearest_grant,
            remedy: Some(grantable::remedy(name)),
        };
        let Some(manifest) = self.manifest(&caller.plugin) else {
            let reason = format!("`{}` has no manifest (any more)", caller.plugin);
            tracing::warn!(target: "gate", plugin = %caller.plugin, invocation = %caller.invocation, operation = name, "denied: no manifest");
            return Err(denial(reason, None));
        };
        let granted = manifest
            .grants
            .iter()
            .flat_map(|grant| &grant.allow)
            .any(|pattern| pattern.covers(name, access));
        if granted {
            return Ok(manifest);
        }
        let interface = name.split('/').next().unwrap_or(name);
        let near = manifest
            .grants
            .iter()
            .find(|grant| {
                grant
                    .allow
                    .iter()
                    .any(|pattern| pattern.mentions(interface))
            })
            .map(|grant| grant.name.clone());
        tracing::warn!(target: "gate", plugin = %caller.plugin, invocation = %caller.invocation, operation = name, "denied: no grant");
        Err(denial(
            format!(
                "no grant of `{}` allows `{name}` ({})",
                caller.plugin,
                access.word()
            ),
            near,
        ))
    }

    pub(crate) async fn send(
        &self,
        caller: &Caller,
        account: &str,
        target: Target<'_>,
        mut arguments: Map<String, Value>,
    ) -> Result<Value, Failure> {
        let secrets = match target {
            Target::Known(operation) => {
                operation.complete(&mut arguments);
                self.0.options.profiles.fill(operation, &mut arguments)?
            }
            Target::Unknown(_) => Secrets::default(),
        };
        let sending = Sending {
            inner: Arc::clone(&self.0),
            caller: caller.clone(),
            account: account.to_owned(),
            operation: match target {
                Target::Known(operation) => Some(operation),
                Target::Unknown(_) => None,
            },
            tool: target.tool().to_owned(),
            arguments,
            secrets,
        };
        let (answer, waiter) = oneshot::channel();
        self.0.sent.spawn(sending.run(answer));
        waiter.await.unwrap_or_else(|_| {
            Err(Failure::UnknownOutcome("the host failed while it waited for the answer; read the state before you try again".to_owned()))
        })
    }
}

/// A call that was allowed, on its way.
struct Sending {
    inner: Arc<Inner>,
    caller: Caller,
    account: String,
    /// Nothing for a tool that the catalog does not know.
    operation: Option<&'static Operation>,
    tool: String,
    arguments: Map<String, Value>,
    secrets: Secrets,
}

impl Sending {
    async fn run(self, answer: oneshot::Sender<Result<Value, Failure>>) {
        let begun = Instant::now();
        let target = self
            .operation
            .map_or(Target::Unknown(&self.tool), Target::Known);
        let call = Call {
            account: &self.account,
            target,
            arguments: self.arguments,
            deadline: begun + self.inner.options.call_timeout,
            clearance: always(),
        };
        let outcome = self.secrets.redact(self.inner.upstream.call(call).await);
        let access = target.access();
        let word = outcome
            .as_ref()
            .map_or_else(ToString::to_string, |_| "answered".to_owned());
        let ms = begun.elapsed().as_millis();
        let (plugin, invocation, tool) = (&self.caller.plugin, &self.caller.invocation, &self.tool);
        // Whoever waited may be gone: for a write, this line is then all that is known of it.
        let awaited = !answer.is_closed();
        if access == Access::Read {
            tracing::debug!(target: "gate", %plugin, %invocation, tool, access = access.word(), awaited, %ms, outcome = word);
        } else {
            tracing::info!(target: "gate", %plugin, %invocation, tool, access = access.word(), awaited, %ms, outcome = word);
        }
        // Nobody waits any more; the outcome is in the log.
        drop(answer.send(outcome));
    }
}

/// Whether the operation has every argument that is given.
///
/// What a plugin sends by `raw` is looked at here by name: the profiles are filled in by it, and
/// servers accept a wrapper (`{"model": …}`) in which nothing would be found.
fn check_names(operation: &Operation, arguments: &Map<String, Value>) -> Result<(), Failure> {
    let known = operation
        .input_schema()
        .get("properties")
        .and_then(Value::as_object);
    let unknown = arguments
        .keys()
        .find(|name| !known.is_some_and(|known| known.contains_key(*name)));
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let unknown: String = unknown.chars().take(64).collect();
    let known: Vec<_> = known
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    Err(Failure::InvalidArgument(format!(
        "{}: there is no argument {unknown:?}; it takes {}",
        operation.tool,
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    )))
}

/// An answer that holds a secret, without what the contract does not name: beside the address to
/// log in at stand, after the log-in, the tokens of the brokerage.
fn without_secrets(operation: &Operation, mut body: Value) -> Value {
    if !operation.secret_answer {
        return body;
    }
    let Some(Type::Record(record)) = operation.function().and_then(|function| function.result)
    else {
        return body;
    };
    let mut answer = &mut body;
    for step in operation.answer_path() {
        match answer.get_mut(step) {
            Some(next) => answer = next,
            None => return body,
        }
    }
    match answer {
        Value::Object(fields) => fields.retain(|name, _| {
            matches!(name.as_str(), "success" | "errors")
                || record.fields.iter().any(|field| field.json == name)
        }),
        other => *other = Value::Object(Map::new()),
    }
    body
}

/// The operation by its name in the catalog; the two that a download is made of.
pub(crate) fn known(name: &str) -> Result<&'static Operation, Failure> {
    by_name(name)
        .ok_or_else(|| Failure::Unavailable(format!("the catalog has no operation `{name}`")))
}
