//! Rust types generated from the contract in `wit/`.
//!
//! Every record and variant derives serde's traits, so that the [adapter](crate::adapter) can carry
//! it to and from JSON without code of its own.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "qchost:agent/agent",
    imports: {
        // Functions that never wait are plain calls: no future, no poll.
        "qchost:agent/answers.left-out": exact,
        "qchost:agent/clock.now": exact,
        "qchost:agent/clock.remaining": exact,
        "qchost:agent/config.all": exact,
        "qchost:agent/config.get": exact,
        "qchost:agent/folders.granted": exact,
        "qchost:agent/log.write": exact,
        "qchost:agent/progress.report": exact,
        default: async,
    },
    exports: { default: async },
    additional_derives: [serde::Serialize, serde::Deserialize],
});
