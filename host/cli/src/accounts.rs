//! Accounts of the configuration as connections: the one place that knows all three kinds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use qchost_catalog::BoxFuture;
use qchost_emulator::Emulator;
use qchost_quantconnect::{CLOUD, Credentials, Options, RestClient, RestOptions, Server};
use qchost_secrets::Secrets;
use qchost_upstream::{
    Account as Connected, AccountOptions, Accounts, ConnectError, Connection, Connector,
    HttpConnector, PipeConnector, StdioConnector,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::config::{Account, text};
use crate::output::words;

/// The pipe to the embedded server, in bytes each way: a large answer in one piece.
const PIPE: usize = 1 << 20;

/// The connections, with the emulators that some of them lead to.
pub struct Connections {
    pub accounts: Accounts,
    /// An emulator runs as long as its handle is held.
    emulators: Mutex<BTreeMap<String, Emulator>>,
    /// The REST API behind each embedded account, for `doctor`.
    pub rest: BTreeMap<String, RestClient>,
    /// Accounts that cannot be used, and why.
    pub problems: BTreeMap<String, anyhow::Error>,
}

/// Accounts that are ready to be connected.
#[derive(Default)]
pub struct Prepared {
    accounts: Vec<Connected>,
    emulators: BTreeMap<String, Emulator>,
    rest: BTreeMap<String, RestClient>,
    /// Those that cannot be used, and why.
    pub problems: BTreeMap<String, anyhow::Error>,
}

impl Connections {
    /// Puts accounts in the place of those of the same names, and takes some away. Calls that are under
    /// way end on the connection that they have.
    pub fn update(&self, prepared: Prepared, removed: &[String]) {
        let mut emulators = self
            .emulators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut former: Vec<Emulator> = removed
            .iter()
            .filter_map(|name| emulators.remove(name))
            .collect();
        for account in &prepared.accounts {
            former.extend(emulators.remove(account.name()));
        }
        emulators.extend(prepared.emulators);
        let retired = self.accounts.update(prepared.accounts, removed);
        tokio::spawn(async move {
            // A call that is under way still needs its emulator. How the task ended does not matter.
            drop(retired.await);
            drop(former);
        });
    }
}

/// The connection of an account that cannot be used: a variable that is not set, a malformed address.
struct Unusable(String);

impl Connector for Unusable {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
        Box::pin(async { Err(ConnectError::Permanent(self.0.clone())) })
    }

    fn describe(&self) -> String {
        self.0.clone()
    }

    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }
}

/// Prepares the connection of every account. Nothing is connected yet, but emulators run. An account
/// that cannot be used takes no other one down: its calls fail, and say why.
pub async fn prepare<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
) -> Result<Connections> {
    let prepared = connectors(accounts, secrets).await;
    Ok(Connections {
        accounts: Accounts::new(prepared.accounts)?,
        emulators: Mutex::new(prepared.emulators),
        rest: prepared.rest,
        problems: prepared.problems,
    })
}

/// Prepares accounts.
pub async fn connectors<'a>(
    accounts: impl IntoIterator<Item = (&'a str, &'a Account)>,
    secrets: &Secrets,
) -> Prepared {
    let mut prepared = Prepared::default();
    for (name, account) in accounts {
        let (connector, options) = connector(name, account, secrets, &mut prepared)
            .await
            .unwrap_or_else(|error| {
                let unusable = Unusable(format!("account `{name}`: {}", words(&error)));
                prepared.problems.insert(name.to_owned(), error);
                (Arc::new(unusable), AccountOptions::default())
            });
        let account = Connected::new(name, connector, options);
        prepared.accounts.push(account);
    }
    prepared
}

async fn connector(
    name: &str,
    account: &Account,
    secrets: &Secrets,
    prepared: &mut Prepared,
) -> Result<(Arc<dyn Connector>, AccountOptions)> {
    let mut options = AccountOptions::default();
    let connector: Arc<dyn Connector> = match account {
        Account::Embedded {
            cloud,
            credentials_file,
        } => {
            let (client, label) = match cloud.as_str() {
                "emulator" => {
                    options.local_downloads = true;
                    let emulator = Emulator::builder().any_port().start().await?;
                    let client = client(
                        emulator.base_url(),
                        &emulator.user_id().to_string(),
                        emulator.token().to_owned().into(),
                    )?;
                    prepared.emulators.insert(name.to_owned(), emulator);
                    (client, "embedded, to the emulator".to_owned())
                }
                cloud => {
                    let base = if cloud == "quantconnect" {
                        CLOUD
                    } else {
                        cloud
                    };
                    options.local_downloads = base.starts_with("http://");
                    let credentials = load(credentials_file.as_deref(), secrets)?;
                    let client = client(base, &credentials.user_id, credentials.api_token)?;
                    let label = format!("embedded, to {}", client.origin());
                    (client, label)
                }
            };
            prepared.rest.insert(name.to_owned(), client.clone());
            let server = Server::new(client, Options { text_only: true });
            Arc::new(PipeConnector::new(label, move || {
                let (ours, theirs) = tokio::io::duplex(PIPE);
                let server = server.clone();
                tokio::spawn(async move {
                    // Ends when our end of the pipe is dropped; how is of no interest then.
                    drop(server.serve_pipe(theirs, CancellationToken::new()).await);
                });
                Ok(tokio::io::split(ours))
            }))
        }
        Account::Stdio {
            command,
            args,
            env,
            cwd,
            credentials,
            credentials_file,
        } => {
            let (mut plain, mut secret) = (Vec::new(), Vec::new());
            for (variable, value) in env {
                let (value, is_secret) = text(value, secrets)
                    .await
                    .with_context(|| format!("env.{variable}"))?;
                if is_secret {
                    secret.push((variable.clone(), value));
                } else {
                    plain.push((variable.clone(), value.expose_secret().to_owned()));
                }
            }
            if *credentials {
                let credentials = load(credentials_file.as_deref(), secrets)?;
                secret.extend(credentials.variables());
            }
            Arc::new(StdioConnector::new(
                command,
                args.clone(),
                plain,
                secret,
                cwd.clone(),
            )?)
        }
        Account::Http { url, headers } => {
            let mut sent = Vec::new();
            for (header, value) in headers {
                let (value, _) = text(value, secrets)
                    .await
                    .with_context(|| format!("headers.{header}"))?;
                sent.push((header.clone(), value));
            }
            Arc::new(HttpConnector::new(url, sent)?)
        }
    };
    Ok((connector, options))
}

/// The user id and the token of an account; what knows the secrets knows the token from then on.
fn load(file: Option<&Path>, secrets: &Secrets) -> Result<qchost_upstream::Credentials> {
    let credentials = qchost_upstream::Credentials::load(file)?;
    secrets.redactor().remember(credentials.api_token.clone());
    Ok(credentials)
}

/// A client of a REST API.
pub fn client(base_url: &str, user_id: &str, token: SecretString) -> Result<RestClient> {
    let credentials = Credentials::new(user_id, token)?;
    let options = RestOptions {
        base_url: base_url.to_owned(),
        ..RestOptions::default()
    };
    Ok(RestClient::new(credentials, &options)?)
}
