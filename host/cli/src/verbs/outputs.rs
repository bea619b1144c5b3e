//! What `--json` prints, as JSON Schemas: a row for each verb, and for the lines on standard error.
//!
//! Invariant: a schema is made of the type that is printed, so that neither changes alone.

use std::path::PathBuf;

use qchost_audit::RecordLine;
use qchost_gate::{Body, Explanation, GrantsReport, Reconciled, Why};
use qchost_policy::Coverage;
use qchost_runtime::Inspection;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::{build, demo, doctor, emulator, halt, init, policy, restore, run, tools, validate};
use crate::output::{ErrorObject, LogObject, ProgressLine, Remark};
use crate::reports::LogRow;
use crate::requests::{
    AccountLoggedOut, AccountRow, ApprovalRow, BackupMade, FileRow, HaltRow, Halted, Head,
    PluginRow, Resumed, Verified,
};

/// Makes the schema of a type; those of the types in it are kept by the generator.
type Define = fn(&mut SchemaGenerator) -> Schema;

fn define<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! outputs {
    ($($name:literal: $($printed:ty)|+,)+) => {
        /// The name of each definition, and the types of which one is printed. A verb has its words joined by hyphens, and
        /// prints one document, or such a document on each line.
        const OUTPUTS: &[(&str, &[Define])] = &[$(($name, &[$(define::<$printed> as Define),+])),+];
    };
}

outputs! {
    "error": ErrorObject<'static>,
    "progress": ProgressLine<'static>,
    "log": LogObject<'static>,
    "remark": Remark<'static>,
    "init": init::Written,
    "run": run::Ready,
    // What the plugin returned.
    "invoke": Value,
    // What QuantConnect answered.
    "call": Value,
    "tools": Vec<tools::Tool>,
    "demo": demo::DemoResult,
    "validate": Vec<validate::FileResult>,
    "reload": Vec<FileRow>,
    "doctor": Vec<doctor::Check>,
    "plugin-build": build::Built,
    "plugin-inspect": Inspection,
    "plugin-list": Vec<PluginRow>,
    "plugin-grants": GrantsReport,
    "plugin-logs": LogRow,
    "account-login": AccountRow,
    "account-status": Vec<AccountRow>,
    "account-logout": AccountLoggedOut,
    "approvals-list": Vec<ApprovalRow>,
    "approvals-show": ApprovalRow,
    "approvals-approve": ApprovalRow,
    "approvals-revoke": ApprovalRow,
    "approvals-refuse": ApprovalRow,
    "halt": Halted | halt::HaltedByFile | Vec<HaltRow>,
    "resume": Resumed,
    "audit-verify": Verified,
    "audit-head": Head,
    "audit-tail": RecordLine<Body>,
    "audit-query": RecordLine<Body>,
    "audit-why": Why,
    // In the format `json`, one array.
    "audit-export": RecordLine<Body> | Vec<RecordLine<Body>>,
    "audit-reconcile": Vec<Reconciled>,
    "policy-explain": Explanation,
    "policy-coverage": Vec<Coverage>,
    "policy-test": Vec<policy::CaseRow>,
    "schema-manifest": Value,
    "schema-guardrails": String,
    "schema-output": Value,
    "backup": BackupMade,
    "restore": restore::Restored,
    "emulator": emulator::Serving,
    "emulator-reset": emulator::Reset,
    // The script.
    "completions": String,
    // The page, or the files of the pages.
    "man": String | Vec<PathBuf>,
}

/// The names of the definitions.
pub fn names() -> impl Iterator<Item = &'static str> {
    OUTPUTS.iter().map(|(name, _)| *name)
}

/// The schema of the document, or of the line, with this name; `None` if there is none.
pub fn schema(name: &str) -> Option<Value> {
    let row = OUTPUTS.iter().find(|(known, _)| *known == name)?;
    let mut document = Map::new();
    document.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
    Some(with_definitions(document, std::slice::from_ref(row)))
}

/// One document with the definitions of everything that is printed.
pub fn all() -> Value {
    with_definitions(Map::new(), OUTPUTS)
}

/// A document with the definitions of these rows, and of the types in them.
fn with_definitions(mut document: Map<String, Value>, rows: &[(&str, &[Define])]) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    if let Some(uri) = &settings.meta_schema {
        document.insert("$schema".to_owned(), uri.clone().into());
    }
    let mut generator = settings.into_generator();
    let mut definitions = Map::new();
    for (name, printed) in rows {
        let schemas = printed.iter().map(|define| define(&mut generator));
        let schemas: Vec<Value> = schemas.map(Schema::to_value).collect();
        let schema = match <[Value; 1]>::try_from(schemas) {
            Ok([only]) => only,
            Err(several) => json!({ "anyOf": several }),
        };
        definitions.insert((*name).to_owned(), schema);
    }
    definitions.extend(generator.take_definitions(true));
    document.insert("$defs".to_owned(), definitions.into());
    document.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    /// The verbs that print no JSON of the host's own: a client of MCP talks to it.
    const OTHERS: [&str; 1] = ["mcp"];

    /// The verbs below a command that people use.
    fn verbs(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = match path {
                "" => verb.get_name().to_owned(),
                path => format!("{path}-{}", verb.get_name()),
            };
            verbs(verb, &path, found);
            if !verb.is_subcommand_required_set() {
                found.insert(path);
            }
        }
    }

    /// Calls `with` for each object in a value.
    fn each_object(value: &Value, with: &mut dyn FnMut(&Map<String, Value>)) {
        match value {
            Value::Object(members) => {
                with(members);
                members.values().for_each(|value| each_object(value, with));
            }
            Value::Array(items) => items.iter().for_each(|value| each_object(value, with)),
            _ => {}
        }
    }

    #[test]
    fn every_verb_has_a_schema_and_every_schema_is_of_a_verb() {
        let mut expected: BTreeSet<String> = ["error", "progress", "log", "remark"]
            .map(str::to_owned)
            .into();
        verbs(&Cli::command(), "", &mut expected);
        for other in OTHERS {
            assert!(expected.remove(other), "there is no verb {other}");
        }
        let known: BTreeSet<String> = names().map(str::to_owned).collect();
        assert_eq!(known.len(), OUTPUTS.len());
        assert_eq!(known, expected);
    }

    #[test]
    fn the_schemas_are_valid_and_whole() {
        let all = all();
        assert!(jsonschema::draft202012::meta::is_valid(&all));
        for name in names() {
            let schema = schema(name).unwrap();
            assert_eq!(schema["$schema"], all["$schema"]);
            assert_eq!(schema["$defs"][name], all["$defs"][name], "{name}");
            // It resolves every reference.
            jsonschema::validator_for(&schema).unwrap();
        }
        assert_eq!(schema("no-such-verb"), None);
    }

    #[test]
    fn every_key_is_in_kebab_case() {
        let is_kebab = |key: &str| {
            let mut words = key.split('-');
            words.all(|word| {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                !word.is_empty() && word.chars().all(fits)
            })
        };
        let mut keys = BTreeSet::new();
        each_object(&all(), &mut |schema| {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                keys.extend(properties.keys().cloned());
            }
        });
        assert!(keys.contains("uses-left"), "{keys:?}");
        let others: Vec<_> = keys.iter().filter(|key| !is_kebab(key)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
