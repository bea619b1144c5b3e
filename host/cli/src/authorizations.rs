//! The authorizations of accounts at servers that a person logs in to.
//!
//! Invariant: an account has one authorization in this process, whatever the configuration becomes: of two with the same
//! tokens, each would make those of the other one useless.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use parking_lot::Mutex;
use qchost_secrets::{Redactor, Secrets};
use qchost_upstream::{Authorization, LoginError, OAuthClient};

use crate::config::{Account, OAuth};

/// The folder of tokens in a data folder. No backup contains it.
const FOLDER: &str = "authorizations";

/// The authorizations by account.
pub struct Authorizations {
    folder: PathBuf,
    redactor: Redactor,
    /// Whether this process may renew tokens: the host of the data folder.
    may_renew: bool,
    by_account: Mutex<BTreeMap<String, Arc<Authorization>>>,
}

/// An account cannot be used until a person logs in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoggedOut(pub String);

impl Authorizations {
    /// Those of the host that has this data folder.
    pub fn of_host(data: &Path, redactor: Redactor) -> Self {
        Self::new(data, redactor, true)
    }

    /// The same for a look beside the host.
    pub fn beside_host(data: &Path, redactor: Redactor) -> Self {
        Self::new(data, redactor, false)
    }

    fn new(data: &Path, redactor: Redactor, may_renew: bool) -> Self {
        Self {
            folder: data.join(FOLDER),
            redactor,
            may_renew,
            by_account: Mutex::default(),
        }
    }

    /// The file with the tokens of an account, if a person logs in to its server.
    pub fn file(&self, name: &str, account: &Account) -> Option<PathBuf> {
        account.login()?;
        Some(self.folder.join(format!("{name}.json")))
    }

    /// The authorization of an account at this server, with the tokens that its file has now. Blocks.
    pub fn open(&self, account: &str, server: &str) -> Result<Arc<Authorization>, LoginError> {
        let mut by_account = self.by_account.lock();
        if let Some(known) = by_account.get(account).filter(|known| known.is_for(server)) {
            known.read_again();
            return Ok(Arc::clone(known));
        }
        let redactor = self.redactor.clone();
        let opened = Authorization::open(account, server, &self.folder, redactor, self.may_renew)?;
        let opened = Arc::new(opened);
        let former = by_account.insert(account.to_owned(), Arc::clone(&opened));
        if let Some(former) = former {
            former.disown_file();
        }
        Ok(opened)
    }

    /// The authorization of an account, if one was opened.
    pub fn get(&self, account: &str) -> Option<Arc<Authorization>> {
        self.by_account.lock().get(account).cloned()
    }
}

/// How the host identifies itself to the authorization server of an account.
pub async fn client(oauth: &OAuth, secrets: &Secrets) -> Result<OAuthClient> {
    let client_secret = match &oauth.client_secret {
        Some(source) => Some(secrets.read(source).await?),
        None => None,
    };
    Ok(OAuthClient {
        client_id: oauth.client_id.clone(),
        client_secret,
        metadata_url: oauth.client_metadata.clone(),
    })
}

/// The server of an account, and how the host identifies itself there.
pub fn login<'a>(name: &str, account: &'a Account) -> Result<(&'a str, &'a OAuth)> {
    match account.login() {
        Some(found) => Ok(found),
        None => bail!(
            "no person logs in to the server of the account `{name}`; if one should, add to the configuration:\n\
             [account.{name}.oauth]\n# client-id = \"…\", if the authorization server gave you one"
        ),
    }
}
