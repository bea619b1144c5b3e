//! The host's own reads at QuantConnect: made for a call, in the queue of its plugin and charged to it, or for the host.
//!
//! Invariant: a read whose clearance refuses is not sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{
    BoxFuture, Call, Clearance, Failure, Operation, Outcome, Target, Upstream, always,
};
use qchost_scope::Reader;
use qchost_traffic::{AccountQueues, Priority};
use serde_json::{Map, Value};

use crate::call::CallRequest;
use crate::read_limits::ReadLimits;

/// The principal of the host's own calls.
pub(crate) const HOST: &str = "qchost";

/// Makes the host's own reads.
pub(crate) struct HostReader {
    pub upstream: Arc<dyn Upstream>,
    pub queues: Arc<AccountQueues>,
    pub limits: Arc<ReadLimits>,
    /// Time limit of a call, and of all reads that are made for it.
    pub call_timeout: Duration,
}

impl HostReader {
    /// The reads for a call, to decide it or to check its answer.
    pub(crate) fn for_call<'a>(&'a self, request: &'a CallRequest) -> HostReads<'a> {
        HostReads {
            reader: self,
            account: request.account(),
            plugin: request.plugin(),
            priority: request.priority(),
            deadline: request.started_at + self.call_timeout,
            clearance: always(),
            cause: Some(request),
        }
    }

    /// Reads that no plugin causes, with a time limit for all of them.
    pub(crate) fn for_host<'a>(&'a self, account: &'a str, timeout: Duration) -> HostReads<'a> {
        HostReads {
            reader: self,
            account,
            plugin: HOST,
            priority: Priority::Normal,
            deadline: Instant::now() + timeout,
            clearance: always(),
            cause: None,
        }
    }
}

/// Reads of one account.
pub(crate) struct HostReads<'a> {
    reader: &'a HostReader,
    account: &'a str,
    plugin: &'a str,
    priority: Priority,
    deadline: Instant,
    /// Whether they may still be sent.
    pub clearance: &'a dyn Clearance,
    /// The call they are charged to, if a plugin's call causes them.
    cause: Option<&'a CallRequest>,
}

impl Reader for HostReads<'_> {
    fn read<'a>(
        &'a self,
        operation: &'static Operation,
        mut arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if let Some(request) = self.cause {
                self.reader
                    .limits
                    .pay_read(request)
                    .await
                    .map_err(|refusal| {
                        *request.read_charges.refused.lock() = Some(refusal);
                        Failure::RateLimited { retry_after: None }
                    })?;
            }
            operation.complete(&mut arguments);
            let queues = &self.reader.queues;
            let admitting = queues.admit(self.account, self.plugin, self.priority);
            let admission = tokio::select! {
                biased;
                admission = admitting => admission,
                refusal = self.clearance.withdrawn() => return Err(refusal),
            };
            let _admission = admission.map_err(|busy| Failure::RateLimited {
                retry_after: Some(busy.retry_after),
            })?;
            let call = Call {
                account: self.account,
                target: Target::Known(operation),
                arguments,
                deadline: self.deadline,
                clearance: self.clearance,
                sends: None,
            };
            self.reader.upstream.call(call).await
        })
    }
}
