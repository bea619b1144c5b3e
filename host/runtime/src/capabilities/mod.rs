//! The interfaces of `quantconnect:api`: one file per interface, one line per operation.
//!
//! A line names the function, its parameters and its result, as the generated trait requires.
//! Everything else follows by rule: a function is named like its tool, so the operation is found in
//! the catalog by that name at compile time, and arguments, answers and errors go through
//! [`CallContext::call`](crate::calls::CallContext::call).
//!
//! Invariant: every operation of the catalog is bound here, and nothing else is. A line without an
//! operation does not compile; an operation without a line fails a test.

use wasmtime::component::{HasSelf, Linker};

use crate::calls::CallContext;
use crate::contract::quantconnect::api::types;

#[macro_use]
mod bind;
mod account;
mod ai;
mod backtests;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod bound;
mod collaboration;
mod compile;
mod files;
mod lean_versions;
mod live;
mod live_commands;
mod nodes;
mod object_store;
mod optimizations;
mod projects;
mod raw;
mod server;

#[cfg(test)]
mod tests;

/// Adds every interface to a linker.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    calls: fn(&mut T) -> &mut CallContext,
) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<CallContext>>(linker, calls)?;
    account::link(linker, calls)?;
    ai::link(linker, calls)?;
    backtests::link(linker, calls)?;
    collaboration::link(linker, calls)?;
    compile::link(linker, calls)?;
    files::link(linker, calls)?;
    lean_versions::link(linker, calls)?;
    live::link(linker, calls)?;
    live_commands::link(linker, calls)?;
    nodes::link(linker, calls)?;
    object_store::link(linker, calls)?;
    optimizations::link(linker, calls)?;
    projects::link(linker, calls)?;
    raw::link(linker, calls)?;
    server::link(linker, calls)
}

impl types::Host for CallContext {}

/// All bindings, for tests and fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn all_bound() -> Vec<bound::Bound> {
    [
        account::bound(),
        ai::bound(),
        backtests::bound(),
        collaboration::bound(),
        compile::bound(),
        files::bound(),
        lean_versions::bound(),
        live::bound(),
        live_commands::bound(),
        nodes::bound(),
        object_store::bound(),
        optimizations::bound(),
        projects::bound(),
        raw::bound(),
        server::bound(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
