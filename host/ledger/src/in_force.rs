//! What is in force: the manifest of each plugin, the guardrails and the configuration, as last adopted.
//!
//! Files on disk are proposals that are compared with what is stored here, so that a restart, another file name,
//! another configuration or a restored backup cannot bring into force what needs approval.
//!
//! Invariant: a text coming into force, the counts that its counters continue and the approval that it uses up are
//! one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::approvals::close_changes;
use crate::counters::{CounterSuccessor, hand_over};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;
use crate::subject::Subject;

/// Reason for closing approvals of other changes when a text comes into force.
const OTHER_IN_FORCE: &str = "something else came into force since it was asked for";
/// The key in `meta` that marks a data folder whose initial content was adopted.
const ADOPTED: &str = "adopted";

/// A text in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Identifies the text.
    pub digest: String,
    /// The text, without secrets.
    pub text: String,
    /// The people who brought it into force.
    pub by: String,
    /// The approval that brought it into force, if it needed one.
    pub approval: Option<String>,
    /// When it came into force. Unix time in milliseconds.
    pub at: i64,
    /// Whether it came into force in this data folder. A text from a backup did not: its rights need approval again,
    /// and the text may be empty if the backup lacks it.
    pub confirmed: bool,
    /// Whether its file was removed since: then it grants nothing any more.
    pub taken_away: bool,
}

/// A text that is to come into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInForce {
    /// Its subject.
    pub subject: Subject,
    /// The plugin of a manifest; empty otherwise.
    pub name: String,
    /// Identifies the text.
    pub digest: String,
    /// The text, without secrets.
    pub text: String,
    /// The people who bring it into force.
    pub by: String,
    /// Unix time in milliseconds.
    pub now: i64,
    /// The approval it uses up.
    pub approval: Option<String>,
    /// The account of the counters.
    pub account: String,
    /// Which counters continue the counts of others.
    pub successors: Vec<CounterSuccessor>,
}

/// The result of bringing a text into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptOutcome {
    /// It is in force. The other approvals of changes of the subject were closed: these.
    InForce(Vec<String>),
    /// Its approval is no longer valid: it was revoked, closed, or has expired. Nothing has changed.
    NotApproved,
}

impl Ledger {
    /// What is in force of a subject; `name` is the plugin of a manifest, and empty otherwise.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn in_force(
        &self,
        subject: Subject,
        name: &str,
    ) -> Result<Option<InForce>, LedgerError> {
        let sql = "SELECT digest, text, by, at_ms, confirmed, approval, taken_away FROM in_force
            WHERE kind = ?1 AND name = ?2";
        let values = (subject.word(), name.to_owned());
        self.connections()
            .row(sql, values, |row| {
                Ok(InForce {
                    digest: row.get(0)?,
                    text: row.get(1)?,
                    by: row.get(2)?,
                    at: row.get(3)?,
                    confirmed: row.get(4)?,
                    approval: row.get(5)?,
                    taken_away: row.get(6)?,
                })
            })
            .await
    }

    /// What came into force by an approval and was not recorded yet: the people and the approval, by the subject's
    /// key in the record of what is in force.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn unrecorded(&self) -> Result<BTreeMap<String, (String, String)>, LedgerError> {
        let sql = "SELECT r.subject, f.by, f.approval FROM in_force AS f JOIN recorded AS r
            ON r.subject = f.kind || CASE f.name WHEN '' THEN '' ELSE ' ' || f.name END
            WHERE f.approval IS NOT NULL AND f.at_ms > r.at_ms";
        self.connections()
            .rows(sql, (), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))
            .await
    }

    /// Brings a text into force, replacing the former one. Approvals of changes relative to the former one become
    /// void.
    ///
    /// # Errors
    /// When the ledger cannot be used; nothing has changed then.
    pub async fn bring_into_force(&self, adopt: NewInForce) -> Result<AdoptOutcome, LedgerError> {
        // The counters that another one continues must not have unused blocks of reads.
        let from = adopt
            .successors
            .iter()
            .flat_map(|successor| successor.of.iter().flatten().cloned());
        let from = from.collect();
        let returned = self
            .return_blocks_of(&adopt.account, &adopt.name, from)
            .await?;
        let brought = self.connections().write(move |it| bring(it, &adopt)).await;
        drop(returned);
        brought
    }

    /// The plugins whose manifests are in force and were not removed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn manifests_in_force(&self) -> Result<Vec<String>, LedgerError> {
        let sql = "SELECT name FROM in_force WHERE kind = ?1 AND NOT taken_away";
        self.connections()
            .rows(sql, [Subject::Manifest.word()], |row| row.get(0))
            .await
    }

    /// Marks a plugin's manifest as removed: it grants nothing any more. Its counts stay.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn take_manifest_away(&self, plugin: &str) -> Result<(), LedgerError> {
        let sql = "UPDATE in_force SET taken_away = 1 WHERE kind = ?1 AND name = ?2";
        let values = (Subject::Manifest.word(), plugin.to_owned());
        self.connections().change(sql, values).await.map(drop)
    }

    /// Whether this data folder has adopted its initial content.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn has_adopted(&self) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?1)";
        let read = self.connections().read(|it| Ok(it.value(sql, [ADOPTED])?));
        read.await
    }

    /// From now on nothing is adopted because the data folder is new.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_adopted(&self) -> Result<(), LedgerError> {
        let sql = "INSERT OR IGNORE INTO meta VALUES (?1, '')";
        self.connections().change(sql, [ADOPTED]).await.map(drop)
    }
}

fn bring(connection: &Connection, adopt: &NewInForce) -> Result<AdoptOutcome, LedgerError> {
    if let Some(approval) = &adopt.approval {
        let sql = "UPDATE approvals SET status = 'used' WHERE id = ?1 AND status = 'approved' AND expires_ms > ?2";
        let used = connection.change(sql, params![approval, adopt.now])?;
        if used == 0 {
            return Ok(AdoptOutcome::NotApproved);
        }
    }
    let sql =
        "INSERT OR REPLACE INTO in_force (kind, name, digest, text, by, at_ms, confirmed, approval)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7)";
    let values = params![
        adopt.subject.word(),
        adopt.name,
        adopt.digest,
        adopt.text,
        adopt.by,
        adopt.now,
        adopt.approval
    ];
    connection.change(sql, values)?;
    let closed = close_changes(connection, adopt.subject, &adopt.name, None, OTHER_IN_FORCE)?;
    hand_over(
        connection,
        [&adopt.account, &adopt.name],
        &adopt.successors,
        adopt.now,
    )?;
    Ok(AdoptOutcome::InForce(closed))
}
