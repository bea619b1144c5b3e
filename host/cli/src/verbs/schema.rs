//! `qchost schema`: the schemas of files and of what is printed, for editors and other programs.

use anyhow::{Error, Result};
use qchost_catalog::FailureKind;
use qchost_policy::nearest;

use super::outputs;
use crate::args::Schema;
use crate::exit_status::{ErrorKind, Failed};
use crate::output::{Output, pretty};
use crate::terminal;

/// Prints the schema.
pub fn run(schema: Schema, output: Output) -> Result<()> {
    match schema {
        Schema::Manifest => output.result(&qchost_policy::manifest_schema(), pretty),
        // In Cedar's own syntax, which its tools read; as JSON this is a string.
        Schema::Guardrails => output.result(&qchost_policy::cedar_schema(), |schema| {
            schema.trim_end().to_owned()
        }),
        Schema::Output { verb } if verb.is_empty() => output.result(&outputs::all(), pretty),
        Schema::Output { verb } => {
            let schema = outputs::schema(&verb.join("-"));
            let schema = schema.ok_or_else(|| unknown(&verb.join(" ")))?;
            output.result(&schema, pretty)
        }
    }
}

fn unknown(verb: &str) -> Error {
    let names: Vec<String> = outputs::names()
        .map(|name| name.replace('-', " "))
        .collect();
    let near = nearest(verb, names.iter().map(String::as_str));
    let near = near.map_or_else(
        || "list them: qchost schema output".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let verb = terminal::line(verb);
    Failed::error(
        ErrorKind::Failure(FailureKind::NotFound),
        format!("there is no schema of what `{verb}` prints; {near}"),
    )
}
