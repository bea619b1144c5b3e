//! `qchost`: the binary. It reads the command line and plugs the crates together; what the crates can
//! do is theirs.

mod accounts;
mod args;
mod config;
mod control;
mod host;
mod lock;
mod logging;
mod output;
mod signals;
mod verbs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use args::{Cli, Plugin, Verb};
use config::Config;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output {
        json: cli.global.json,
    };
    match begin(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn begin(cli: Cli, output: Output) -> Result<()> {
    logging::start(&cli.global.log, cli.global.log_json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime does not start")?;
    let done = runtime.block_on(dispatch(cli, output));
    // A task that still runs has been waited for where it matters.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn dispatch(cli: Cli, output: Output) -> Result<()> {
    let config = || Config::load(&cli.global.config);
    match cli.verb {
        Verb::Init { folder } => verbs::init::run(&folder, output),
        Verb::Run { drain } => {
            verbs::run::run(&config()?, Duration::from_secs(drain), output).await
        }
        Verb::Invoke { action, input } => {
            verbs::invoke::run(&config()?, &action, &input, output).await
        }
        Verb::Call {
            tool,
            arguments,
            account,
        } => verbs::call::run(&config()?, account.as_deref(), &tool, &arguments, output).await,
        Verb::Demo { manifest } => verbs::demo::run(&manifest, output).await,
        Verb::Validate { files } => verbs::validate::run(&files, output).await,
        Verb::Doctor => verbs::doctor::run(&cli.global.config, output).await,
        Verb::Plugin(Plugin::Build { folder, output: to }) => {
            verbs::build::run(&folder, to.as_deref(), output)
        }
        Verb::Plugin(Plugin::Inspect { component }) => {
            verbs::plugin::inspect(&component, output).await
        }
        Verb::Plugin(Plugin::List) => verbs::plugin::list(&config()?, output).await,
        Verb::Plugin(Plugin::Grants { plugin }) => {
            verbs::plugin::grants(&config()?, &plugin, output)
        }
        Verb::Mcp {
            base_url,
            credentials,
        } => verbs::mcp::run(&base_url, credentials.as_deref()).await,
        Verb::Emulator {
            listen,
            user_id,
            faster,
        } => verbs::emulator::run(listen, user_id, faster, output).await,
    }
}
