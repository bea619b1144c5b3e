//! The tools as MCP clients see them: one entry per operation of the catalog, with its validator. A validator is
//! compiled when its tool is first called and a description built when it is listed: most of both are never
//! needed.
//!
//! Invariants: operations are not listed a second time here; the annotations follow from the catalog's access
//! class; arguments that an entry accepts match its input schema; and no message repeats an argument's value,
//! which may be a brokerage's password.

use std::sync::{Arc, OnceLock};

use jsonschema::Validator;
use qchost_catalog::{Access, Failure, Operation};
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value};

/// The key under which the official server expects the arguments of most of its tools.
const WRAPPER: &str = "model";

/// What the contract cannot know about the two tools that make no request.
const OWN_VERSION: &str = "This server is part of qchost and comes with it: both version tools \
answer that version, and no registry is asked for a newer one.";

/// Maximum number of errors reported for one call.
const MAX_FAULTS: usize = 5;

/// All tools that go by the REST API, in the catalog's order.
pub(crate) struct Tools {
    entries: Vec<Entry>,
}

/// One tool.
pub(crate) struct Entry {
    pub(crate) operation: &'static Operation,
    validator: OnceLock<Validator>,
}

impl Tools {
    pub(crate) fn new(operations: &'static [Operation]) -> Self {
        let entry = |operation| Entry {
            operation,
            validator: OnceLock::new(),
        };
        Self {
            entries: operations
                .iter()
                .filter(|operation| operation.rest)
                .map(entry)
                .collect(),
        }
    }

    /// The tool with this exact name.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.operation.tool == name)
    }

    /// The answer to `tools/list`.
    pub(crate) fn list(&self, output_schemas: bool) -> Vec<Tool> {
        self.entries
            .iter()
            .map(|entry| description(entry.operation, output_schemas))
            .collect()
    }
}

impl Entry {
    /// Unwraps and checks the arguments. A `null` at the top level is the same as a missing argument.
    pub(crate) fn arguments(
        &self,
        arguments: Map<String, Value>,
    ) -> Result<Map<String, Value>, Failure> {
        let mut arguments = self.unwrapped(arguments);
        arguments.retain(|_, value| !value.is_null());
        self.check_names(&arguments)?;
        let arguments = Value::Object(arguments);
        let faults: Vec<String> = self
            .validator()?
            .iter_errors(&arguments)
            .take(MAX_FAULTS)
            .map(|fault| match fault.instance_path().as_str() {
                "" => fault.masked().to_string(),
                path => format!("{path}: {}", fault.masked()),
            })
            .collect();
        match arguments {
            Value::Object(arguments) if faults.is_empty() => Ok(arguments),
            _ => Err(self.invalid(&faults.join("; "))),
        }
    }

    fn validator(&self) -> Result<&Validator, Failure> {
        if let Some(validator) = self.validator.get() {
            return Ok(validator);
        }
        let compiled = jsonschema::options().build(&Value::Object(self.operation.server_schema()));
        match compiled {
            Ok(validator) => Ok(self.validator.get_or_init(|| validator)),
            Err(error) => Err(Failure::Unavailable(format!(
                "the input schema of {} is unusable, please report it: {error}",
                self.operation.tool
            ))),
        }
    }

    fn unwrapped(&self, mut arguments: Map<String, Value>) -> Map<String, Value> {
        if arguments.len() == 1
            && !self.names().any(|name| name == WRAPPER)
            && let Some(Value::Object(inner)) = arguments.get_mut(WRAPPER)
        {
            return std::mem::take(inner);
        }
        arguments
    }

    fn check_names(&self, arguments: &Map<String, Value>) -> Result<(), Failure> {
        let Some(unknown) = arguments
            .keys()
            .find(|key| !self.names().any(|name| name == *key))
        else {
            return Ok(());
        };
        let known: Vec<&str> = self.names().collect();
        let takes = if known.is_empty() {
            "no arguments".to_owned()
        } else {
            known.join(", ")
        };
        let unknown = qchost_text::excerpt(unknown, 64);
        Err(self.invalid(&format!("unknown argument {unknown:?}; it takes {takes}")))
    }

    /// The names of the valid arguments.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.operation
            .input_schema()
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|properties| properties.keys().map(String::as_str))
            .chain(self.operation.of_profile())
    }

    fn invalid(&self, what: &str) -> Failure {
        Failure::InvalidArgument(format!("{}: {what}", self.operation.tool))
    }
}

/// The MCP description of a tool.
fn description(operation: &Operation, output_schema: bool) -> Tool {
    let mut description = operation.description().to_owned();
    if operation.answered_by_server() {
        description.push(' ');
        description.push_str(OWN_VERSION);
    }
    let input_schema = Arc::new(operation.server_schema());
    let tool = Tool::new(operation.tool, description, input_schema)
        .with_title(title(operation.tool))
        .with_annotations(annotations(operation));
    if output_schema {
        tool.with_raw_output_schema(Arc::new(operation.output_schema()))
    } else {
        tool
    }
}

/// `read_compile` → `Read compile`.
fn title(tool: &str) -> String {
    let words = tool.replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// The catalog's properties in MCP's terms, where a tool is destructive unless it only adds. A tool that ends
/// something is destructive even if it reduces risk: a client should ask before it stops an algorithm.
fn annotations(operation: &Operation) -> ToolAnnotations {
    let reads = operation.access == Access::Read;
    let destructive = match operation.access {
        Access::Read => false,
        Access::Write => !operation.additive,
        Access::Reduce | Access::Destroy | Access::Trade => true,
    };
    ToolAnnotations::with_title(title(operation.tool))
        .read_only(reads)
        .destructive(destructive)
        .idempotent(reads || operation.idempotent)
        .open_world(!operation.answered_by_server())
}
