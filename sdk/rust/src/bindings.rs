//! What `wit-bindgen` makes of the contract in `wit/`.
//!
//! The contract is found through the link `sdk/rust/wit`, which Cargo replaces by the files
//! themselves when it packages the crate: a checkout and a published crate read the same path.
//!
//! The error types are the crate's own ([`crate::Error`] and its neighbours), so that they have
//! sentences and conversions; the generated code names each of their cases, so that they cannot
//! drift from the contract.
//!
//! The large records of answers have a `Default`, so that a test of a plugin can make one of the
//! two fields that it is about.

#![allow(missing_docs, unsafe_code, rust_2018_idioms)]
#![allow(clippy::all, clippy::restriction)]

wit_bindgen::generate!({
    path: "wit",
    world: "qchost:agent/agent",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "qchost_sdk::bindings",
    additional_derives: [PartialEq],
    additional_type_attributes: {
        "quantconnect:api/backtests@0.1.0/backtest": [#[derive(Default)]],
        "quantconnect:api/backtests@0.1.0/backtest-summary": [#[derive(Default)]],
        "quantconnect:api/backtests@0.1.0/performance": [#[derive(Default)]],
        "quantconnect:api/backtests@0.1.0/portfolio-statistics": [#[derive(Default)]],
        "quantconnect:api/backtests@0.1.0/trade-statistics": [#[derive(Default)]],
        "quantconnect:api/live@0.1.0/live-algorithm": [#[derive(Default)]],
        "quantconnect:api/live@0.1.0/live-summary": [#[derive(Default)]],
        "quantconnect:api/nodes@0.1.0/node": [#[derive(Default)]],
        "quantconnect:api/optimizations@0.1.0/optimization": [#[derive(Default)]],
        "quantconnect:api/projects@0.1.0/project": [#[derive(Default)]],
        "quantconnect:api/types@0.1.0/closed-trade": [#[derive(Default)]],
        "quantconnect:api/types@0.1.0/insight": [#[derive(Default)]],
        "quantconnect:api/types@0.1.0/order": [#[derive(Default)]],
    },
    with: {
        "quantconnect:api/types@0.1.0/error": crate::Error,
        "qchost:agent/state@0.1.0/state-error": crate::StateError,
        "qchost:agent/folders@0.1.0/folder-error": crate::FolderError,
        "qchost:agent/guest@0.1.0/failure": crate::Failure,
    },
});
