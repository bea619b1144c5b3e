//! `qchost invoke`: an action of a plugin.

use anyhow::Result;

use super::arguments::json_argument;
use crate::control::{self, Route};
use crate::output::{Output, pretty};
use crate::requests::Invoke;

/// Invokes through the running host, or in this process.
pub async fn run(
    route: &Route,
    action: &str,
    input: &str,
    logs: bool,
    output: Output,
) -> Result<()> {
    let request = Invoke {
        action: action.to_owned(),
        input: json_argument(input)?,
        logs,
    };
    let result = control::perform(route, request, output).await?;
    output.result(&result, pretty)
}
