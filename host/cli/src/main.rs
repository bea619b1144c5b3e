//! `qchost`: the binary. It parses the command line and wires the crates together; the work is done in the crates.

mod accounts;
mod args;
mod config;
mod control;
mod gate;
mod host;
mod in_force;
mod keys;
mod lock;
mod log_queue;
mod logging;
mod manifests;
mod output;
mod reload;
mod service;
mod signals;
mod terminal;
mod verbs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;

use args::{Cli, Global, Plugin, Verb};
use control::Route;
use output::Output;

/// Answers become thousands of small values that are freed again, which is most of the adapter's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(error, Cli::try_parse_from),
    };
    // Before anything else starts: it needs a process to itself.
    match &cli.verb {
        Verb::CompileComponent => return qchost_runtime::compile_child(),
        Verb::SuperviseServer { host, command } => {
            return qchost_upstream::supervise(*host, command);
        }
        _ => {}
    }
    let output = Output {
        json: cli.global.json,
    };
    let done = begin(cli, output);
    logging::close();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            let own = error.downcast_ref::<output::ExitWith>();
            own.map_or(ExitCode::FAILURE, |own| ExitCode::from(own.status))
        }
    }
}

fn begin(cli: Cli, output: Output) -> Result<()> {
    logging::start(&cli.global.log, cli.global.log_json)?;
    let mut builder = match cli.verb {
        // For a single client: a call that does not move between threads is answered sooner, and takes less memory.
        Verb::Mcp { .. } => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .context("the asynchronous runtime does not start")?;
    let done = runtime.block_on(dispatch(cli, output));
    // Tasks that matter have been waited for already.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn dispatch(cli: Cli, output: Output) -> Result<()> {
    let Global {
        config: file,
        data,
        socket,
        ..
    } = cli.global;
    // `run`, `restore` and `doctor` may come before the folder is created; the other verbs do not use it.
    let may_come = matches!(
        cli.verb,
        Verb::Run { .. }
            | Verb::Restore { .. }
            | Verb::Doctor
            | Verb::Init { .. }
            | Verb::Demo { .. }
            | Verb::Validate { .. }
            | Verb::Plugin(Plugin::Build { .. } | Plugin::Inspect { .. })
            | Verb::Schema(_)
            | Verb::Mcp { .. }
            | Verb::Emulator { .. }
    );
    if let Some(data) = data.as_ref().filter(|_| !may_come) {
        ensure!(
            data.try_exists().unwrap_or(true),
            "--data {}: there is no such folder, so no host is there and nothing is known of one",
            data.display()
        );
    }
    let route = || Route::new(&file, data.clone(), socket.clone());
    match cli.verb {
        Verb::Init { folder } => verbs::init::run(&folder, output),
        Verb::Run { drain } => {
            verbs::run::run(route().config()?, Duration::from_secs(drain), output).await
        }
        Verb::Invoke { action, input } => {
            verbs::invoke::run(&route(), &action, &input, output).await
        }
        Verb::Call {
            tool,
            arguments,
            account,
        } => verbs::call::run(&route(), account.as_deref(), &tool, &arguments, output).await,
        Verb::Demo { manifest } => verbs::demo::run(&manifest, output).await,
        Verb::Validate { files } => verbs::validate::run(&files, &file, output).await,
        Verb::Reload => verbs::reload::run(&route(), output).await,
        Verb::Doctor => verbs::doctor::run(&route(), output).await,
        Verb::Plugin(Plugin::Build { folder, output: to }) => {
            verbs::build::run(&folder, to.as_deref(), output)
        }
        Verb::Plugin(Plugin::Inspect { component }) => {
            verbs::plugin::inspect(&component, output).await
        }
        Verb::Plugin(Plugin::List) => verbs::plugin::list(&route(), output).await,
        Verb::Plugin(Plugin::Grants { plugin }) => {
            verbs::grants::run(&route(), &plugin, output).await
        }
        Verb::Approvals(verb) => verbs::approvals::run(&route(), verb, output).await,
        Verb::Halt { list: true, .. } => verbs::halt::list(&route(), output).await,
        Verb::Halt {
            target,
            reason,
            liquidate,
            list: false,
        } => verbs::halt::run(&route(), target, reason, liquidate, output).await,
        Verb::Resume { target } => verbs::halt::resume(&route(), target, output).await,
        Verb::Audit(verb) => verbs::audit::run(&route(), verb, output).await,
        Verb::Policy(verb) => verbs::policy::run(&route(), verb, output).await,
        Verb::Schema(schema) => verbs::schema::run(&schema, output),
        Verb::Backup { folder } => verbs::backup::run(&route(), &folder, output).await,
        Verb::Restore { folder, expected } => {
            verbs::restore::run(&file, &folder, &expected, data, output)
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
        Verb::CompileComponent | Verb::SuperviseServer { .. } => {
            bail!("it is done before there is a runtime")
        }
    }
}
