//! `/live/commands/…`: commands to running algorithms.
//!
//! The model does not act on a command; it records it in the deployment's log, where a test
//! can see that it arrived.

use std::sync::Arc;

use serde_json::Value;

use super::Deployment;
use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::limits;
use crate::state::Cloud;

/// Longest command, in bytes of JSON.
const LENGTH: usize = 16 << 10;

/// A command in the log of a deployment.
#[derive(Debug)]
pub(super) struct Command {
    /// After so many lines of the algorithm's own log.
    pub(super) after: usize,
    pub(super) line: String,
}

pub(crate) fn command(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let text = command_text(arguments)?;
    let deployment = state.deployment_mut(arguments)?;
    if !deployment.takes_commands() {
        return Err(Refusal::because(
            "The live algorithm is not running: it takes no commands",
        ));
    }
    deployment.record(cloud, &text)?;
    Reply::done()
}

/// Sends a command to every running algorithm of the organisation but those of one project.
pub(crate) fn broadcast(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments.text("organizationId")?)?;
    let text = command_text(arguments)?;
    let excluded = arguments.optional_integer("excludeProjectId")?;
    let mut state = cloud.state();
    if let Some(id) = excluded
        && !u32::try_from(id).is_ok_and(|id| state.projects.contains_key(&id))
    {
        return Err(Refusal::not_found("Project", id));
    }
    for deployment in &mut state.deployments {
        if deployment.takes_commands() && Some(i64::from(deployment.project_id)) != excluded {
            deployment.record(cloud, &text)?;
        }
    }
    Reply::done()
}

impl Deployment {
    fn takes_commands(&self) -> bool {
        self.stopped.is_none() && self.running.is_some()
    }

    fn record(&mut self, cloud: &Cloud, text: &str) -> Result<(), Refusal> {
        if self.commands.len() >= limits::COMMANDS {
            return Err(Refusal::because(format!(
                "The emulator records at most {} commands of a deployment",
                limits::COMMANDS
            )));
        }
        let after = self.view(cloud).log_length();
        let line = format!("Command received: {text}");
        self.commands.push(Command { after, line });
        Ok(())
    }
}

fn command_text(arguments: &Arguments) -> Result<String, Refusal> {
    let text = Value::Object(arguments.object("command")?.clone()).to_string();
    if text.len() > LENGTH {
        return Err(Refusal::invalid("command", "at most 16 KB of JSON"));
    }
    Ok(text)
}
