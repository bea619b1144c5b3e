//! `qchost emulator`: QuantConnect's REST API on this machine, its remote MCP server, and what the emulators of accounts
//! keep.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;
use qchost_emulator::{Emulator, Remote, Timing};
use qchost_gate::{AdminAction, AdminBody, AdminDetail};
use qchost_text::EMULATOR_TOKEN;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::ServeEmulator;
use crate::config::{Config, EMULATOR, Mode, listed};
use crate::control::{self, Approach, Route};
use crate::emulators::{self, read_seed};
use crate::exit_status::{ErrorKind, Failed};
use crate::gate::record_alone;
use crate::host::without_role;
use crate::output::{Output, pretty, words};
use crate::requests::AskHost;
use crate::signals;

/// How a client reaches the emulator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Serving {
    base_url: String,
    /// The remote MCP server, where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_url: Option<String>,
    user_id: u64,
    /// The API token, unless the environment has another one, which is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_token: Option<&'static str>,
    organization_id: String,
    /// Where its results come from.
    engine: &'static str,
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(options: ServeEmulator, output: Output) -> Result<()> {
    let ServeEmulator {
        listen,
        user_id,
        faster,
        keep,
        seed,
        remote,
        derived_data,
    } = options;
    ensure!(
        listen.ip().is_loopback(),
        "the emulator listens at a loopback address only, not at {listen}: it does not encrypt, and every machine that reaches it could use it"
    );
    let token =
        std::env::var("QCHOST_EMULATOR_TOKEN").unwrap_or_else(|_| EMULATOR_TOKEN.to_owned());
    let mut builder = Emulator::builder()
        .address(listen)
        .credentials(user_id, token)
        .timing(Timing::default().faster(faster))
        .derived_data(derived_data);
    if let Some(file) = keep {
        builder = builder.keep(file);
    }
    if let Some(seed) = seed {
        builder = builder.seed(read_seed(&seed)?);
    }
    if remote {
        builder = builder.remote(Remote::new());
    }
    let emulator = builder.start().await?;
    let ready = Serving {
        base_url: emulator.base_url().to_owned(),
        remote_url: emulator.remote_url().map(str::to_owned),
        user_id: emulator.user_id(),
        api_token: (emulator.token() == EMULATOR_TOKEN).then_some(EMULATOR_TOKEN),
        organization_id: emulator.organization_id().to_owned(),
        engine: "the emulator's model, not LEAN",
    };
    let ended = signals::ended();
    output.result(&ready, pretty)?;
    ended.await;
    emulator.shutdown().await;
    Ok(())
}

/// What an emulator begins with again.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Reset {
    account: String,
    /// The file with what it begins with; without one, nothing.
    seed: Option<PathBuf>,
}

/// Makes the emulator of an account begin afresh.
pub async fn reset(
    route: &Route,
    account: Option<&str>,
    seed: Option<&Path>,
    output: Output,
) -> Result<()> {
    let config = route.config()?;
    ensure!(
        config.mode == Mode::Development,
        "in production an emulator keeps nothing, so there is nothing to reset"
    );
    let name = emulator_of(config, account)?;
    let own = config.account.get(name).and_then(|account| account.seed());
    let seed = seed.or(own).map(Path::to_owned);
    // Held until it is done, so that no host starts meanwhile.
    let (data, lock) = match control::approach(route).await? {
        Approach::Host(_) => {
            let status = control::ask_running(route, AskHost {}, output).await?;
            let kill = status.map(|status| format!(" (kill {})", status.pid));
            let message = format!(
                "a host runs with the emulator of `{name}`, so nothing was reset; end it{}, and try again",
                kill.unwrap_or_default()
            );
            return Err(Failed::error(ErrorKind::UNAVAILABLE, message));
        }
        Approach::Alone { config, lock, .. } => (config.data()?, lock),
    };
    let done = Reset {
        account: name.to_owned(),
        seed,
    };
    // Before it is done, like every act of a person.
    let emulator = done.account.clone();
    let detail = AdminDetail::EmulatorReset { emulator };
    record_alone(config, &data, &act(AdminAction::EmulatorReset, detail)).await?;
    let (account, file, folder) = (done.account.clone(), done.seed.clone(), data.clone());
    let work = move || emulators::reset(&folder, &account, file.as_deref());
    let reset = tokio::task::spawn_blocking(work)
        .await
        .context("the reset was cut off")?;
    if let Err(error) = reset {
        let reason = words(&error);
        let failed = act(
            AdminAction::EmulatorNotReset,
            AdminDetail::Failed { reason },
        );
        record_alone(config, &data, &failed).await?;
        return Err(error);
    }
    drop(lock);
    output.result(&done, |done| {
        let with = done.seed.as_ref().map_or_else(
            || "with nothing".to_owned(),
            |seed| format!("with {}", seed.display()),
        );
        format!("the emulator of {} begins afresh, {with}", done.account)
    })
}

/// What is recorded of an act of the user that runs this command.
fn act(action: AdminAction, detail: AdminDetail) -> AdminBody {
    let person = without_role(geteuid().as_raw());
    AdminBody::new(action, Some(&person), detail)
}

/// The account with this name, or the only one, that leads to an emulator.
fn emulator_of<'c>(config: &'c Config, account: Option<&str>) -> Result<&'c str> {
    if let Some(name) = account {
        let found = config.account.get_key_value(name);
        let (name, account) = found.with_context(|| {
            format!(
                "there is no account `{name}`; configured are: {}",
                listed(&config.account)
            )
        })?;
        ensure!(
            account.is_emulator(),
            "the account `{name}` leads to no emulator of a host: its cloud is not \"{EMULATOR}\""
        );
        return Ok(name);
    }
    let emulated = config.account.iter();
    let mut emulated = emulated.filter(|(_, account)| account.is_emulator());
    match (emulated.next(), emulated.next()) {
        (Some((only, _)), None) => Ok(only),
        (None, _) => bail!("no account leads to an emulator of a host"),
        (Some(_), Some(_)) => bail!("name an account with --account: several have an emulator"),
    }
}
