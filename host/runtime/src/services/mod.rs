//! The host's own services to an agent: `qchost:agent/*`.
//!
//! Invariant: none of them reaches QuantConnect except `workflow`, which uses the same
//! [`Calls`](crate::calls::Calls) as the agent itself.

mod answers;
pub(crate) mod approvals;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod state;
pub(crate) mod workflow;

use wasmtime::component::{HasSelf, Linker};

use crate::contract::qchost::agent;
use crate::instance::Instance;

/// Adds the services to a linker.
pub(crate) fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    agent::answers::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.calls
    })?;
    agent::approvals::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.approvals
    })?;
    agent::clock::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.clock
    })?;
    agent::config::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.config
    })?;
    agent::log::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.lines
    })?;
    agent::progress::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.progress
    })?;
    agent::state::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.state
    })?;
    agent::workflow::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
        &mut instance.workflow
    })
}
