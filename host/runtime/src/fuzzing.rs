//! Entry points for the fuzz targets of `host/testing/targets`: the adapter, the loader and the check of
//! descriptions, each as the host uses it but without a host.

use std::path::Path;
use std::sync::LazyLock;

use qchost_catalog::Operation;
use qchost_text::Redactor;
use serde_json::{Map, Value};
use wasmtime::component::Linker;

use crate::capabilities::{self, bound::Bound};
use crate::compiler::Compiled;
use crate::component::{Parsed, Source};
use crate::contract::exports::qchost::agent::guest;
use crate::declared::Declared;
use crate::description::{self, Description};
use crate::engine::Machine;
use crate::instance::Instance;
use crate::limits::Budget;
use crate::load_error::ComponentError;
use crate::{Import, linker, loader};

static BOUND: LazyLock<Vec<Bound>> = LazyLock::new(capabilities::all_bound);

fn bound(operation: &Operation) -> Option<&'static Bound> {
    BOUND
        .iter()
        .find(|bound| bound.operation.tool == operation.tool)
}

/// A decoded body.
#[derive(Debug)]
pub struct Answer {
    /// The value that the plugin gets, formatted with `{:?}`.
    pub shown: String,
    /// The body encoded from the value, in the contract's form.
    pub body: Result<Value, String>,
}

/// What a plugin gets of a body. `None` if the operation is not bound.
#[must_use]
pub fn answer(operation: &Operation, body: Value) -> Option<Result<Answer, String>> {
    let answer = (bound(operation)?.answer)(body)
        .map(|answered| Answer {
            shown: answered.debug,
            body: answered.body.map_err(|misfit| misfit.to_string()),
        })
        .map_err(|misfit| misfit.to_string());
    Some(answer)
}

/// Arguments decoded into the values that a plugin would pass, and encoded again. `None` if the
/// operation is not bound.
#[must_use]
pub fn arguments(
    operation: &Operation,
    arguments: Value,
) -> Option<Result<Map<String, Value>, String>> {
    Some((bound(operation)?.round_trip)(arguments).map_err(|misfit| misfit.to_string()))
}

/// Checks a description with one action that has this schema for both input and output, and for its settings, and then an
/// input. `None` if no input was checked.
///
/// # Errors
/// When the description is refused.
pub fn describe(
    name: &str,
    schema: &str,
    input: Option<&Value>,
) -> Result<(Description, Option<bool>), String> {
    let action = guest::Action {
        name: name.to_owned(),
        description: name.to_owned(),
        input_schema: schema.to_owned(),
        output_schema: schema.to_owned(),
        hints: guest::Hints {
            read_only: false,
            destructive: false,
            idempotent: false,
        },
    };
    let described = guest::Description {
        name: name.to_owned(),
        version: name.to_owned(),
        summary: name.to_owned(),
        actions: vec![action],
        config_schema: Some(schema.to_owned()),
    };
    let (described, schemas) = description::check(described)?;
    let fits = input.and_then(|input| {
        let schema = &schemas.actions.get(name)?.input;
        Some(schema.work(input).is_ok() && schema.validate(input, &Redactor::default()).is_ok())
    });
    Ok((described, fits))
}

/// A component that may run.
#[derive(Debug)]
pub struct Loaded {
    /// What it imports.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its description, or why it is not accepted.
    pub description: Result<Description, String>,
    /// Whether a host would have refused it before compiling it, which it must not.
    pub refused: bool,
}

/// The loader, which compiles in this process.
pub struct Loader {
    machine: Machine,
    linker: Linker<Instance>,
    budget: Budget,
    tasks: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

impl Loader {
    /// Starts an engine.
    ///
    /// # Errors
    /// When it does not start.
    pub fn new() -> wasmtime::Result<Self> {
        let machine = Machine::new(1, false)?;
        let linker = linker::linker(&machine.engine)?;
        let tasks = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Self {
            machine,
            linker,
            budget: Budget::new(1 << 30),
            tasks,
        })
    }

    /// Takes a file through every step of loading that does not involve a manifest.
    ///
    /// # Errors
    /// When it would not be loaded; a missing description is no error.
    pub fn load(&self, bytes: &[u8]) -> Result<Loaded, ComponentError> {
        let source = Source {
            digest: "sha256:0".into(),
            bytes: bytes::Bytes::copy_from_slice(bytes),
        };
        source.check_format()?;
        let engine = &self.machine.engine;
        let invalid =
            |error: wasmtime::Error| ComponentError::invalid(&error.root_cause().to_string());
        let declared = Declared::read(bytes);
        let compiled = engine.precompile_component(bytes).map_err(invalid)?;
        let parsed = Parsed::map(engine, &Compiled::verified(compiled.into())).map_err(invalid)?;
        let agent = parsed.link(&self.linker)?;
        let (machine, budget) = (&self.machine, &self.budget);
        let path = Path::new("fuzzed.wasm");
        let described = loader::describe(machine, budget, path, &source.digest, &agent);
        let description = self
            .tasks
            .block_on(described)
            .and_then(description::check)
            .map(|(description, _)| description);
        Ok(Loaded {
            imports: parsed.imports,
            exports: parsed.exports,
            description,
            refused: declared.is_some_and(|declared| declared.check().is_err()),
        })
    }
}
