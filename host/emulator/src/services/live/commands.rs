//! `/live/commands/…`: commands to running algorithms.
//!
//! The model does not act on a command; it records it in the deployment's log, where a test
//! can see that it arrived.

use std::sync::Arc;

use serde_json::Value;

use super::view::LiveView;
use crate::services::answer::{Answer, Refusal, Reply};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::store::deployment::{Command, Deployment};
use crate::store::{State, limits};

/// Longest command, in bytes of JSON.
const MAX_COMMAND_BYTES: usize = 16 << 10;

pub(crate) fn command(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let text = command_text(arguments)?;
    let deployment = state.deployment_mut(arguments)?;
    if !deployment.is_running() {
        return Err(Refusal::because(
            "The live algorithm is not running: it takes no commands",
        ));
    }
    record(cloud, deployment, &text)?;
    Reply::done()
}

/// Sends a command to every running algorithm of the organisation but those of one project.
pub(crate) fn broadcast(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let text = command_text(arguments)?;
    let excluded = arguments.optional("excludeProjectId", Arguments::integer)?;
    let excluded = excluded.map(|id| state.project_with(id)).transpose()?;
    let excluded = excluded.map(|project| project.id);
    for deployment in &mut state.deployments {
        if deployment.is_running() && Some(deployment.project_id) != excluded {
            record(cloud, deployment, &text)?;
        }
    }
    Reply::done()
}

fn record(cloud: &Cloud, deployment: &mut Deployment, text: &str) -> Result<(), Refusal> {
    if deployment.commands.len() >= limits::COMMANDS {
        return Err(Refusal::because(format!(
            "The emulator records at most {} commands of a deployment",
            limits::COMMANDS
        )));
    }
    deployment.commands.push(Command {
        after: LiveView::of(cloud, deployment).log_length(),
        line: format!("Command received: {text}"),
    });
    Ok(())
}

fn command_text(arguments: &Arguments) -> Result<String, Refusal> {
    let text = Value::Object(arguments.object("command")?.clone()).to_string();
    if text.len() > MAX_COMMAND_BYTES {
        return Err(Refusal::invalid("command", "at most 16 KB of JSON"));
    }
    Ok(text)
}
