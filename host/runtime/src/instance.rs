//! The state of one running component: its calls, its services, an empty WASI and its share of
//! memory.
//!
//! Invariant: it lives exactly as long as its store, which is dropped with the invocation.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::calls::{CallContext, InvocationRequest};
use crate::limits::Allocation;
use crate::outgoing::Http;
use crate::plugin_log::InvocationLog;
use crate::services::approvals::Approvals;
use crate::services::clock::Clock;
use crate::services::config::Config;
use crate::services::folders::Folders;
use crate::services::log::Lines;
use crate::services::progress::Reporter;
use crate::services::state::State;
use crate::services::workflow::Workflow;
use crate::version_context::VersionContext;
use crate::wasi;

/// Maximum handles (streams, pollables) that a guest may hold at a time.
pub(crate) const MAX_HANDLES: usize = 1000;

/// The data of a store.
pub(crate) struct Instance {
    pub(crate) calls: CallContext,
    pub(crate) approvals: Approvals,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) folders: Folders,
    pub(crate) lines: Arc<Lines>,
    pub(crate) progress: Reporter,
    pub(crate) state: State,
    pub(crate) workflow: Workflow,
    pub(crate) memory: Allocation,
    http: Http,
    /// Created on first use: most guests never use it, and it takes random numbers.
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

/// The parameters of an instance.
pub(crate) struct Parts {
    pub(crate) version_context: Arc<VersionContext>,
    /// Identifies the invocation.
    pub(crate) invocation: Arc<str>,
    pub(crate) request: InvocationRequest,
    pub(crate) deadline: Instant,
    pub(crate) progress: Reporter,
    /// Receives what it logs, if its client asked for that.
    pub(crate) log: Option<Arc<InvocationLog>>,
    /// Memory limit in bytes.
    pub(crate) memory: u64,
}

impl Instance {
    pub(crate) fn new(parts: Parts) -> Self {
        let calls = CallContext::new(parts.version_context, parts.invocation, parts.request);
        let lines = Arc::new(Lines::new(calls.clone(), parts.log));
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            workflow: Workflow::new(
                calls.clone(),
                parts.progress.clone(),
                parts.deadline,
                calls.version_context().parallel,
            ),
            approvals: Approvals {
                calls: calls.clone(),
                deadline: parts.deadline,
                progress: parts.progress.clone(),
            },
            http: Http::new(calls.clone(), parts.deadline),
            clock: Clock {
                deadline: parts.deadline,
            },
            config: Config(calls.clone()),
            folders: Folders(calls.clone()),
            wasi: None,
            lines,
            progress: parts.progress,
            state: State(calls.clone()),
            memory: Allocation::new(calls.version_context().memory.clone(), parts.memory),
            calls,
            table,
        }
    }
}

impl WasiView for Instance {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(|| wasi::empty(&self.lines)),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Instance {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}
