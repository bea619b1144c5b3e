//! `qchost completions`: what a shell needs to complete a command line.

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::generate;

use crate::args::{Cli, Shell};
use crate::output::Output;

/// Prints the script.
pub fn run(shell: Shell, output: Output) -> Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut offered(&Cli::command()), "qchost", &mut script);
    let script = String::from_utf8(script).context("the script is not text")?;
    output.result(&script, |script| script.trim_end().to_owned())
}

/// The command without those that no person uses: the scripts would offer them, hidden or not.
fn offered(command: &Command) -> Command {
    let inner = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
        .map(offered);
    let mut copy = Command::new(command.get_name().to_owned())
        .args(command.get_arguments())
        .groups(command.get_groups())
        .subcommands(inner);
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned()).propagate_version(true);
    }
    copy
}
