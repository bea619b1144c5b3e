//! The interfaces of `quantconnect:api`: one file per interface, one line per operation.
//!
//! A line names the function, its parameters and its result, as the generated trait requires.
//! Everything else follows by rule: a function is named like its tool, so the operation is found in
//! the catalog by that name at compile time, and arguments, answers and errors go through
//! [`Calls::call`](crate::calls::Calls::call).
//!
//! Invariant: every operation of the catalog is bound here, and nothing else is. A line without an
//! operation does not compile; an operation without a line fails a test.

use wasmtime::component::{HasSelf, Linker};

use crate::calls::Calls;
use crate::contract::quantconnect::api::types;
use crate::instance::Instance;

/// Binds the functions of one interface to the operations of the same name, and, in braces, any
/// function that consists of more than one operation.
macro_rules! capability {
    (
        $( $function:ident($($parameter:ident: $ty:ty),*) -> $answer:ty; )*
        $( { $($more:item)* } )?
    ) => {
        impl Host for $crate::calls::Calls {
            $(
                // A function without parameters adds no argument.
                #[allow(unused_mut)]
                async fn $function(&mut self, $($parameter: $ty),*) -> Result<$answer, Error> {
                    const OPERATION: &qchost_catalog::Operation =
                        qchost_catalog::operation(stringify!($function));
                    let mut arguments = $crate::adapter::Arguments::of(OPERATION);
                    $(
                        arguments
                            .push(&$parameter)
                            .map_err(|misfit| $crate::calls::invalid(OPERATION, &misfit))?;
                    )*
                    self.call(OPERATION, arguments.finish()).await
                }
            )*
            $($($more)*)?
        }

        /// Adds the interface to a linker.
        pub(super) fn link(
            linker: &mut wasmtime::component::Linker<$crate::instance::Instance>,
        ) -> wasmtime::Result<()> {
            use wasmtime::component::HasSelf;
            add_to_linker::<_, HasSelf<$crate::calls::Calls>>(
                linker,
                |instance: &mut $crate::instance::Instance| &mut instance.calls,
            )
        }

        /// The bindings, for tests and fuzz targets.
        #[cfg(any(test, feature = "fuzzing"))]
        pub(super) fn bound() -> Vec<$crate::capabilities::bound::Bound> {
            vec![$({
                const OPERATION: &qchost_catalog::Operation =
                    qchost_catalog::operation(stringify!($function));
                $crate::capabilities::bound::Bound {
                    operation: OPERATION,
                    answer: |body| {
                        $crate::adapter::decode_answer::<$answer>(OPERATION, body, &$crate::adapter::LeftOut::default())
                            .map(|answer| $crate::capabilities::bound::Answered::new(OPERATION, &answer))
                    },
                    there_and_back: |arguments| {
                        #[allow(unused_mut, unused_variables)]
                        let mut given = $crate::capabilities::bound::Given::of(OPERATION, arguments);
                        #[allow(unused_mut)]
                        let mut arguments = $crate::adapter::Arguments::of(OPERATION);
                        $(
                            let $parameter: $ty = given.next()?;
                            arguments.push(&$parameter)?;
                        )*
                        Ok(arguments.finish())
                    },
                }
            }),*]
        }
    };
}

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
pub(crate) fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<Calls>>(linker, |instance: &mut Instance| {
        &mut instance.calls
    })?;
    account::link(linker)?;
    ai::link(linker)?;
    backtests::link(linker)?;
    collaboration::link(linker)?;
    compile::link(linker)?;
    files::link(linker)?;
    lean_versions::link(linker)?;
    live::link(linker)?;
    live_commands::link(linker)?;
    nodes::link(linker)?;
    object_store::link(linker)?;
    optimizations::link(linker)?;
    projects::link(linker)?;
    raw::link(linker)?;
    server::link(linker)
}

impl types::Host for Calls {}
