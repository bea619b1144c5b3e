//! By which brokerage profile each live deployment was made, and which profiles count as ones for real money, since a
//! deployment of them did not say of itself that it is on paper.
//!
//! Invariant: a profile that counts as one for real money is never forgotten, and the first report about it is kept.

use crate::error::LedgerError;
use crate::ledger::Ledger;

/// A report that a profile trades with real money, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveProfile {
    /// The name of the profile.
    pub profile: String,
    /// The account of the deployment.
    pub account: String,
    /// The id of the deployment that said so, or did not say otherwise.
    pub deployment: String,
    /// When the host read it. Unix time in milliseconds.
    pub at: i64,
}

impl Ledger {
    /// Stores by which profile a deployment was made.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_deployed(
        &self,
        account: &str,
        deployment: &str,
        profile: &str,
        now: i64,
    ) -> Result<(), LedgerError> {
        let sql = "INSERT OR REPLACE INTO deployed VALUES (?1, ?2, ?3, ?4)";
        let (account, deployment) = (account.to_owned(), deployment.to_owned());
        let values = (account, deployment, profile.to_owned(), now);
        self.connections().change(sql, values).await.map(drop)
    }

    /// The profile that a deployment was made by; `None` if the host did not make it.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn profile_of(
        &self,
        account: &str,
        deployment: &str,
    ) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT profile FROM deployed WHERE account = ?1 AND deployment = ?2";
        let values = [account.to_owned(), deployment.to_owned()];
        self.connections().row(sql, values, |row| row.get(0)).await
    }

    /// Stores that a profile counts as one for real money.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_live_profile(&self, live: LiveProfile) -> Result<(), LedgerError> {
        let sql = "INSERT OR IGNORE INTO live_profiles VALUES (?1, ?2, ?3, ?4)";
        let values = (live.profile, live.account, live.deployment, live.at);
        self.connections().change(sql, values).await.map(drop)
    }

    /// The profiles that count as ones for real money.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn live_profiles(&self) -> Result<Vec<LiveProfile>, LedgerError> {
        let sql = "SELECT profile, account, deployment, at_ms FROM live_profiles ORDER BY profile";
        self.connections()
            .rows(sql, (), |row| {
                Ok(LiveProfile {
                    profile: row.get(0)?,
                    account: row.get(1)?,
                    deployment: row.get(2)?,
                    at: row.get(3)?,
                })
            })
            .await
    }
}
