//! One file per verb: what it asks for, and how the answer is shown.

mod account;
mod approvals;
mod arguments;
mod audit;
mod backup;
mod build;
mod call;
mod cells;
mod completions;
mod demo;
mod doctor;
mod emulator;
mod grants;
mod halt;
mod init;
mod invoke;
mod man;
mod mcp;
mod outputs;
mod plugin;
mod policy;
mod reload;
mod restore;
mod run;
mod schema;
mod tools;
mod validate;

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::args::{Cli, Emulator, Global, Plugin, Verb};
use crate::control::Route;
use crate::output::Output;

/// Carries out the verb.
pub async fn run(cli: Cli, output: Output) -> Result<()> {
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
            | Verb::Emulator { verb: None, .. }
            | Verb::Completions { .. }
            | Verb::Tools { .. }
            | Verb::Man { .. }
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
        Verb::Init {
            folder,
            systemd,
            systemd_version,
        } => init::run(&folder, systemd, systemd_version, output),
        Verb::Run {
            drain,
            recover_people,
        } => {
            let (route, drain) = (route(), Duration::from_secs(drain));
            run::run(route.config()?, drain, recover_people, output).await
        }
        Verb::Invoke {
            action,
            input,
            logs,
        } => invoke::run(&route(), &action, &input, logs, output).await,
        Verb::Call {
            tool,
            arguments,
            account,
        } => call::run(&route(), account.as_deref(), &tool, &arguments, output).await,
        Verb::Demo { manifest } => demo::run(&manifest, output).await,
        Verb::Validate { files } => validate::run(&files, route().config().ok(), output).await,
        Verb::Reload => reload::run(&route(), output).await,
        Verb::Doctor => doctor::run(&route(), output).await,
        Verb::Plugin(Plugin::Build { folder, output: to }) => {
            build::run(&folder, to.as_deref(), output)
        }
        Verb::Plugin(Plugin::Inspect { component }) => {
            plugin::inspect(&component, route().config().ok(), output).await
        }
        Verb::Plugin(Plugin::List) => plugin::list(&route(), output).await,
        Verb::Plugin(Plugin::Logs(request)) => plugin::logs(&route(), request, output).await,
        Verb::Plugin(Plugin::Grants(request)) => grants::run(&route(), request, output).await,
        Verb::Account(verb) => account::run(&route(), verb, output).await,
        Verb::Approvals(verb) => approvals::run(&route(), verb, output).await,
        Verb::Halt { list: true, .. } => halt::list(&route(), output).await,
        Verb::Halt { request, .. } => halt::run(&route(), request, output).await,
        Verb::Resume(request) => halt::resume(&route(), request, output).await,
        Verb::Audit(verb) => audit::run(&route(), verb, output).await,
        Verb::Policy(verb) => policy::run(&route(), verb, output).await,
        Verb::Schema(schema) => schema::run(schema, output),
        Verb::Backup { folder } => backup::run(&route(), &folder, output).await,
        Verb::Restore {
            folder,
            expected,
            files,
        } => {
            let places = restore::Places { data, files };
            restore::run(&file, &folder, &expected, places, output)
        }
        Verb::Mcp {
            base_url,
            credentials,
        } => mcp::run(&base_url, credentials.as_deref()).await,
        Verb::Emulator { verb: None, serve } => emulator::run(serve, output).await,
        Verb::Emulator {
            verb: Some(Emulator::Reset { account, seed }),
            ..
        } => emulator::reset(&route(), account.as_deref(), seed.as_deref(), output).await,
        Verb::Tools { words } => tools::run(&words, output),
        Verb::Completions { shell } => completions::run(shell, output),
        Verb::Man {
            command,
            output: folder,
        } => man::run(&command, folder.as_deref(), output),
        Verb::CompileComponent | Verb::SuperviseServer { .. } => {
            bail!("it is done before there is a runtime")
        }
    }
}
