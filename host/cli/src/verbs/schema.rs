//! `qchost schema`: the schemas of files, for editors and other programs.

use anyhow::Result;

use crate::args::Schema;
use crate::output::{Output, pretty};

/// Prints the schema.
pub fn run(schema: &Schema, output: Output) -> Result<()> {
    match schema {
        Schema::Manifest => output.result(&qchost_policy::manifest_schema(), pretty),
        // In Cedar's own syntax, which its tools read; as JSON this is a string.
        Schema::Guardrails => output.result(&qchost_policy::cedar_schema(), |schema| {
            schema.trim_end().to_owned()
        }),
    }
}
