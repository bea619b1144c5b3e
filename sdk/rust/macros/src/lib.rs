//! The attribute macro of `qchost-sdk`. Use it from there.

use proc_macro::TokenStream;

mod expand;
mod parse;

/// Makes an agent of a module.
///
/// ```text
/// /// What the agent is for, in a sentence.
/// #[agent(name = "strategy-lab", version = "1.2.3", config = Settings)]
/// mod agent {
///     use super::*;
///
///     /// What the action does, for a person or a model.
///     #[action(name = "sweep-grid", read_only, destructive, idempotent)]
///     fn sweep(input: Sweep) -> Result<Ranking, Failure> { … }
///
///     /// What is done about it.
///     #[on("backtest-finished", "optimization-finished")]
///     fn finished(event: Event) -> Result<(), Failure> { … }
/// }
/// ```
///
/// - The names default to the crate's and the function's in kebab-case, and match
///   `[a-z0-9-]{1,64}`; the version defaults to the crate's.
/// - `config` is the type of the agent's settings, with `serde::Deserialize` and `schemars::JsonSchema`: the host loads no
///   manifest whose `[config]` does not fit its schema, and `config::load` reads them.
/// - An action takes one argument, of a type with `serde::Deserialize` and `schemars::JsonSchema`, or none. It
///   returns a `Result` of a type with `serde::Serialize` and `JsonSchema`, and of an error that
///   converts into `Failure`.
/// - `read_only`, `destructive` and `idempotent` are the hints of the contract: they tell a
///   caller what to expect and grant nothing.
/// - A handler is called for events of the kinds that it lists and that the manifest subscribes to.
///
/// The module gets a type `Agent` that implements `qchost_sdk::Guest`; tests can call it. Built
/// for WebAssembly, it is exported, so a crate has one agent.
#[proc_macro_attribute]
pub fn agent(arguments: TokenStream, module: TokenStream) -> TokenStream {
    expand::agent(arguments.into(), module.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
