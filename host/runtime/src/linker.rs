//! Everything that the host provides to a component, linked with the instance that it calls.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::capabilities;
use crate::contract::qchost::agent;
use crate::instance::Instance;

/// A linker of all interfaces. A component gets those of `wasi:http` only if its manifest has an `[[http]]`.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Instance>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    link_services(&mut linker)?;
    capabilities::link(&mut linker, |instance: &mut Instance| &mut instance.calls)?;
    Ok(linker)
}

/// Adds the services to a linker.
fn link_services(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    macro_rules! services {
        ($($interface:ident: $field:ident,)*) => {$(
            agent::$interface::add_to_linker::<_, HasSelf<_>>(linker, |instance: &mut Instance| {
                &mut instance.$field
            })?;
        )*};
    }
    services! {
        answers: calls,
        approvals: approvals,
        clock: clock,
        config: config,
        evidence: calls,
        folders: folders,
        log: lines,
        progress: progress,
        state: state,
        workflow: workflow,
    }
    Ok(())
}
