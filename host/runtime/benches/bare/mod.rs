//! The floor: wasmtime and nothing else, on an engine with the runtime's settings.

use qchost_runtime::bench::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};

wasmtime::component::bindgen!({
    inline: "package bench:bare; world bare { export qchost:agent/guest@0.1.0; }",
    path: "../../wit",
    world: "bench:bare/bare",
    exports: { default: async },
});

/// A component, ready to be instantiated.
pub struct Floor {
    engine: Engine,
    code: BarePre<StoreLimits>,
}

impl Floor {
    /// What the component imports is not there: a call of it is a trap. `link` adds what it does call.
    pub fn new(component: &[u8], link: impl FnOnce(&mut Linker<StoreLimits>)) -> Self {
        let engine = Engine::new(128).unwrap();
        let component = Component::new(engine.engine(), component).unwrap();
        let mut linker = Linker::new(engine.engine());
        link(&mut linker);
        linker.define_unknown_imports_as_traps(&component).unwrap();
        let code = BarePre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        Self { engine, code }
    }

    /// A fresh instance, one call of the typed export, drop.
    pub async fn invoke(&self, action: &str, input: &String) -> String {
        let limits = StoreLimitsBuilder::new().memory_size(64 << 20).build();
        let mut store = Store::new(self.engine.engine(), limits);
        store.limiter(|limits| limits);
        store.epoch_deadline_async_yield_and_update(1);
        let bare = self.code.instantiate_async(&mut store).await.unwrap();
        let guest = bare.qchost_agent_guest();
        guest
            .call_invoke(&mut store, action, input)
            .await
            .unwrap()
            .unwrap()
    }
}
