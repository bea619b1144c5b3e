//! `qchost schema`: what a file may hold, for editors and other programs.

use anyhow::Result;

use crate::args::Schema;
use crate::output::{Output, pretty};

/// Prints it.
pub fn run(schema: &Schema, output: Output) -> Result<()> {
    match schema {
        Schema::Manifest => output.result(&qchost_policy::manifest_schema(), pretty),
        // In Cedar's own form, which its tools read; as JSON that is a text.
        Schema::Guardrails => output.result(&qchost_policy::cedar_schema(), |schema| {
            schema.trim_end().to_owned()
        }),
    }
}
