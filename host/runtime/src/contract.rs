//! The contract as Rust: what `wit/` says, generated.
//!
//! Every record and variant derives serde's traits, so that the [adapter](crate::adapter) can carry
//! it to and from JSON without code of its own.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "qchost:agent/agent",
    imports: { default: async },
    exports: { default: async },
    additional_derives: [serde::Serialize, serde::Deserialize],
});
