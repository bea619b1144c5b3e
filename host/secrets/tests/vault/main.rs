//! Secrets in Vault: logging in, reading, renewing, and every way in which that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod failures;
mod leases;
mod reading;
mod server;
mod tls;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qchost_secrets::{SecretError, Secrets, Source, VaultError, VaultOptions};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use server::{Fault, Token, Vault};
use tempfile::TempDir;

const READ: &str = "GET /v1/secret/data/ib";
const LOGIN: &str = "POST /v1/auth/approle/login";
const LOOK_UP: &str = "GET /v1/auth/token/lookup-self";
const RENEW: &str = "POST /v1/auth/token/renew-self";

/// What no message may hold.
const VALUES: [&str; 4] = [
    "hunter2-and-more",
    "first-secret-id",
    "wrong-secret-id",
    "hvs.",
];

/// A Vault, and a folder with what the host logs in with.
struct Setup {
    vault: Vault,
    folder: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let vault = Vault::start().await;
        vault.put(
            "secret/ib",
            json!({"password": "hunter2-and-more", "user": "host-user", "pin": 1234, "empty": ""}),
        );
        let setup = Self {
            vault,
            folder: tempfile::tempdir().unwrap(),
        };
        setup.write("secret-id", "first-secret-id");
        setup
    }

    /// Writes a file that only this user can read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn app_role(&self) -> Value {
        let file = self.folder.path().join("secret-id");
        json!({"role-id": "role-of-the-host", "secret-id": {"file": file}})
    }

    fn token(&self, id: &str) -> Value {
        json!({"token": {"file": self.write("token", id)}})
    }

    /// Secrets that keep nothing, with more options.
    fn secrets_with(&self, auth: Value, more: Value) -> Secrets {
        let mut table = json!({
            "address": self.vault.address(),
            "auth": auth,
            "cache-seconds": 0,
            "timeout-seconds": 5,
        });
        for (key, value) in more.as_object().unwrap() {
            table[key] = value.clone();
        }
        let options: VaultOptions = serde_json::from_value(table).unwrap();
        Secrets::new(Some(options)).unwrap()
    }

    fn secrets(&self) -> Secrets {
        self.secrets_with(self.app_role(), json!({}))
    }
}

fn at(place: &str) -> Source {
    serde_json::from_value(json!({ "vault": place })).unwrap()
}

async fn read(secrets: &Secrets, place: &str) -> Result<String, VaultError> {
    match secrets.read(&at(place)).await {
        Ok(secret) => Ok(secret.expose_secret().to_owned()),
        Err(SecretError::Vault(error)) => {
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!VALUES.iter().any(|value| shown.contains(value)), "{shown}");
            }
            Err(error)
        }
        Err(other) => panic!("{other}"),
    }
}

async fn password(secrets: &Secrets) -> Result<String, VaultError> {
    read(secrets, "secret/ib#password").await
}

/// Reads until a condition holds, and gives every outcome.
async fn read_until(
    secrets: &Secrets,
    bound: Duration,
    met: impl Fn(&Result<String, VaultError>) -> bool,
) -> Vec<Result<String, VaultError>> {
    let began = Instant::now();
    let mut outcomes = Vec::new();
    loop {
        let outcome = password(secrets).await;
        let done = met(&outcome);
        outcomes.push(outcome);
        if done {
            return outcomes;
        }
        assert!(began.elapsed() < bound, "{:?}", outcomes.last());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
