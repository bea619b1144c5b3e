//! Brokerage profiles that count as ones for real money, since a deployment did not say of itself that it is on paper.
//!
//! By its settings a profile may count as a paper one. QuantConnect says with what account a deployment trades, and
//! that counts: from the first deployment that says real money, or that says nothing known when it is made, its profile
//! is one for real money, also after a restart.
//!
//! Invariant: a report only narrows. None makes a profile a paper one, and none is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Mutex, RwLock};
use qchost_ledger::{Ledger, LedgerError, LiveProfile};
use qchost_secrets::Profiles;

use crate::clock::now;

/// What deployments said of the profiles that they were made by.
pub(crate) struct PaperEvidence {
    ledger: Ledger,
    live: RwLock<BTreeMap<String, LiveProfile>>,
    unstored: Mutex<Unstored>,
}

/// What the ledger could not take.
#[derive(Default)]
struct Unstored {
    /// The profiles of deployments, by account and deployment.
    deployed: BTreeMap<(String, String), String>,
    /// Profiles whose report is not stored.
    live: BTreeSet<String>,
}

/// Maximum deployments whose profile is remembered in memory alone.
const MAX_UNSTORED: usize = 1_000;

impl PaperEvidence {
    /// With the reports that there are.
    pub(crate) fn new(ledger: Ledger, reports: Vec<LiveProfile>) -> Self {
        let reports = reports.into_iter();
        let live = reports.map(|one| (one.profile.clone(), one)).collect();
        Self {
            ledger,
            live: RwLock::new(live),
            unstored: Mutex::default(),
        }
    }

    /// With the reports in the ledger.
    pub(crate) async fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        let reports = ledger.live_profiles().await?;
        Ok(Self::new(ledger, reports))
    }

    /// Whether a profile trades with real money; `None` if there is no such profile.
    pub(crate) fn is_live(&self, profiles: &Profiles, profile: &str) -> Option<bool> {
        let by_settings = profiles.brokerage(profile)?;
        Some(by_settings || self.live.read().contains_key(profile))
    }

    /// The report that a profile trades with real money, or may, if there is one.
    pub(crate) fn report_on(&self, profile: &str) -> Option<LiveProfile> {
        self.live.read().get(profile).cloned()
    }

    /// All reports, by the names of profiles.
    pub(crate) fn reports(&self) -> Vec<LiveProfile> {
        self.live.read().values().cloned().collect()
    }

    /// Remembers by which profile a deployment was made.
    pub(crate) async fn made(&self, account: &str, deployment: &str, profile: &str) {
        let recorded = self
            .ledger
            .record_deployed(account, deployment, profile, now())
            .await;
        if let Err(error) = recorded {
            tracing::warn!(target: "gate", account, deployment, profile, %error, "the profile of a deployment is not remembered beyond this process");
            let mut unstored = self.unstored.lock();
            if unstored.deployed.len() < MAX_UNSTORED {
                let key = (account.to_owned(), deployment.to_owned());
                unstored.deployed.insert(key, profile.to_owned());
            }
        }
    }

    /// Notes deployments that said that they trade with real money.
    pub(crate) async fn note_live(&self, account: &str, deployments: &[String]) {
        for deployment in deployments {
            let key = (account.to_owned(), deployment.clone());
            let unstored = self.unstored.lock().deployed.get(&key).cloned();
            if let Some(profile) = unstored {
                self.note(account, deployment, profile).await;
                continue;
            }
            match self.ledger.profile_of(account, deployment).await {
                Ok(Some(profile)) => self.note(account, deployment, profile).await,
                // The host did not make it.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(target: "gate", account, deployment, %error, "whose profile a deployment with real money has cannot be read");
                }
            }
        }
    }

    /// Notes that a deployment made by this profile did not say that it trades without real money.
    pub(crate) async fn note(&self, account: &str, deployment: &str, profile: String) {
        let report = LiveProfile {
            profile: profile.clone(),
            account: account.to_owned(),
            deployment: deployment.to_owned(),
            at: now(),
        };
        let is_known = {
            let mut live = self.live.write();
            let is_known = live.contains_key(&profile);
            if !is_known {
                live.insert(profile.clone(), report.clone());
            }
            is_known
        };
        if is_known && !self.unstored.lock().live.contains(&profile) {
            return;
        }
        if !is_known {
            tracing::warn!(target: "gate", account, deployment, profile, "a deployment does not say that it trades without real money: its brokerage profile counts as one for real money from now on");
        }
        match self.ledger.record_live_profile(report).await {
            Ok(()) => {
                self.unstored.lock().live.remove(&profile);
            }
            Err(error) => {
                // Until the next report of it.
                tracing::warn!(target: "gate", profile, %error, "that a profile trades with real money is not remembered beyond this process");
                self.unstored.lock().live.insert(profile);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use qchost_secrets::{Profile, Secrets, Setting};
    use serde_json::json;

    use super::*;

    fn profiles() -> Profiles {
        let profile = |module: &str, setting: &str, value: &str| -> Profile {
            let plain = |text: &str| Setting::Plain(json!(text));
            [("id", module), (setting, value)]
                .map(|(name, text)| (name.to_owned(), plain(text)))
                .into()
        };
        let all = [
            (
                "practice",
                profile("OandaBrokerage", "oanda-environment", "Practice"),
            ),
            (
                "trade",
                profile("OandaBrokerage", "oanda-environment", "Trade"),
            ),
        ];
        let all = all.map(|(name, profile)| (name.to_owned(), profile));
        Profiles::new(all.into(), Secrets::default())
    }

    #[tokio::test]
    async fn a_profile_that_a_deployment_says_is_live_stays_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (profiles, ledger) = (profiles(), Ledger::open(&path).unwrap());
        let evidence = PaperEvidence::open(ledger.clone()).await.unwrap();
        let live = |evidence: &PaperEvidence| {
            ["practice", "trade", "none"].map(|name| evidence.is_live(&profiles, name))
        };
        assert_eq!(live(&evidence), [Some(false), Some(true), None]);
        evidence.made("a", "L-1", "practice").await;
        // Deployments of another account, and those that the host did not make, say nothing of a profile.
        evidence.note_live("b", &["L-1".to_owned()]).await;
        evidence.note_live("a", &["L-2".to_owned()]).await;
        assert_eq!(live(&evidence), [Some(false), Some(true), None]);
        evidence.note_live("a", &["L-1".to_owned()]).await;
        assert_eq!(live(&evidence), [Some(true), Some(true), None]);
        assert_eq!(evidence.report_on("practice").unwrap().deployment, "L-1");
        drop((evidence, ledger));
        let ledger = Ledger::open(&path).unwrap();
        let evidence = PaperEvidence::open(ledger).await.unwrap();
        assert_eq!(live(&evidence), [Some(true), Some(true), None]);
    }

    /// As on a disk that is full for a while.
    #[tokio::test]
    async fn what_the_ledger_cannot_take_counts_at_once_and_is_stored_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (profiles, ledger) = (profiles(), Ledger::open(&path).unwrap());
        let evidence = PaperEvidence::open(ledger.clone()).await.unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        for table in ["deployed", "live_profiles"] {
            let full = format!(
                "CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
            );
            other.execute_batch(&full).unwrap();
        }
        let report = ["L-1".to_owned()];
        evidence.made("a", "L-1", "practice").await;
        evidence.note_live("a", &report).await;
        assert_eq!(evidence.is_live(&profiles, "practice"), Some(true));
        assert!(ledger.live_profiles().await.unwrap().is_empty());
        for table in ["deployed", "live_profiles"] {
            let room = format!("DROP TRIGGER full_{table}");
            other.execute_batch(&room).unwrap();
        }
        evidence.note_live("a", &report).await;
        let stored = ledger.live_profiles().await.unwrap();
        let names: Vec<_> = stored.iter().map(|one| one.profile.as_str()).collect();
        assert_eq!(names, ["practice"]);
    }
}
