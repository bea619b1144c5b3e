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
mod datasets;
mod exports;
mod files;
mod lean_versions;
mod libraries;
mod live;
mod live_commands;
mod nodes;
mod notifications;
mod object_store;
mod optimizations;
mod organizations;
mod projects;
mod raw;
mod research;
mod server;
mod skills;
mod templates;

#[cfg(test)]
mod tests;

/// What is done with every interface.
macro_rules! interfaces {
    ($($interface:ident)*) => {
        /// Adds every interface to a linker.
        pub(crate) fn link<T: Send + 'static>(
            linker: &mut Linker<T>,
            calls: fn(&mut T) -> &mut CallContext,
        ) -> wasmtime::Result<()> {
            types::add_to_linker::<_, HasSelf<CallContext>>(linker, calls)?;
            $($interface::link(linker, calls)?;)*
            Ok(())
        }

        /// All bindings, for tests and fuzz targets.
        #[cfg(any(test, feature = "fuzzing"))]
        pub(crate) fn all_bound() -> Vec<bound::Bound> {
            [$($interface::bound()),*].into_iter().flatten().collect()
        }
    };
}

interfaces! {
    account ai backtests collaboration compile datasets exports files lean_versions libraries live live_commands
    nodes notifications object_store optimizations organizations projects raw research server skills templates
}

impl types::Host for CallContext {}
