//! `qchost`: the binary. It parses the command line and wires the crates together; the work is done in the crates.

mod accounts;
mod args;
mod authorizations;
mod backup;
mod children;
mod config;
mod control;
mod data_folder;
mod emulators;
mod exit_status;
mod expiring;
mod file_table;
mod fingerprint;
mod gate;
mod host;
mod identities;
mod identity_changes;
mod in_force;
mod keys;
mod layout;
mod lock;
mod log_queue;
mod logging;
mod manifests;
mod output;
mod places;
mod pulse;
mod recovery;
mod redirect;
mod reload;
mod reload_trigger;
mod reports;
mod requests;
mod service;
mod signals;
mod systemd;
mod terminal;
mod verbs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use args::{Cli, Verb};
use exit_status::{ErrorKind, ExitStatus};
use output::Output;

/// Answers become thousands of small values that are freed again, which is most of the adapter's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(error, Cli::try_parse_from).into(),
    };
    // Before anything else starts: it needs a process to itself.
    match &cli.verb {
        Verb::CompileComponent => return qchost_runtime::compile_child(),
        Verb::SuperviseServer { host, command } => {
            return qchost_upstream::supervise(*host, command);
        }
        _ => {}
    }
    layout::measure();
    let output = Output {
        json: cli.global.json,
    };
    let done = begin(cli, output);
    logging::close();
    match done {
        Ok(()) => ExitStatus::Done.into(),
        Err(error) => {
            output.error(&error);
            ErrorKind::from_error(&error).exit_status().into()
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
    let done = runtime.block_on(verbs::run(cli, output));
    // Tasks that matter have been waited for already.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
