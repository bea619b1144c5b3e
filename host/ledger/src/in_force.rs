//! What is in force: the manifest of each plugin, the guardrails and the configuration, as they were last adopted.
//!
//! Files on disk are proposals. What is kept here is what they are compared with, so that a restart, another file
//! name, another configuration or a restored backup is no way to bring something into force that waits for a person.
//!
//! Invariant: what comes into force, what its counters take over and the approval that it uses up are one
//! transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::approvals::close_changes;
use crate::budgets::{Counter, Heir};
use crate::error::LedgerError;
use crate::ledger::Ledger;

/// Why approvals of other changes are closed when a text comes into force.
const OTHER_IN_FORCE: &str = "something else came into force since it was asked for";
/// The value in `meta` that says that a data folder has adopted what was there when it was new.
const ADOPTED: &str = "adopted";

/// What a text in force is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The manifest of a plugin, by the plugin's name.
    Manifest,
    /// All guardrails.
    Guardrails,
    /// What the configuration says of people, modes and profiles.
    Configuration,
}

impl Subject {
    /// The word for it in approvals, messages and records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Guardrails => "guardrails",
            Self::Configuration => "configuration",
        }
    }
}

/// A text that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Identifies the text.
    pub digest: String,
    /// The text, without secrets.
    pub text: String,
    /// Who brought it into force.
    pub by: String,
    /// The approval that it came into force by, if it needed one.
    pub approval: Option<String>,
    /// When. Unix time in milliseconds.
    pub at: i64,
    /// Whether it came into force in this data folder. One of a backup did not: what it gives waits for a yes again,
    /// and its text may be empty where the backup has none.
    pub confirmed: bool,
    /// Whether the file that it stands in is gone since: then it gives nothing any more.
    pub taken_away: bool,
}

/// What is to be in force from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// What it is about.
    pub subject: Subject,
    /// The plugin, of a manifest; empty otherwise.
    pub name: String,
    /// Identifies the text.
    pub digest: String,
    /// The text, without secrets.
    pub text: String,
    /// Who brings it into force.
    pub by: String,
    /// Unix time in milliseconds.
    pub now: i64,
    /// The approval that it uses up.
    pub approval: Option<String>,
    /// The account of the counters.
    pub account: String,
    /// Which counters take over what others have counted.
    pub heirs: Vec<Heir>,
}

/// What became of a text that was to come into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// It is in force. Every other approval of a change of the subject was closed: these.
    InForce(Vec<String>),
    /// Its approval cannot be used any more: it was revoked, closed, or has expired. Nothing has changed.
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
        let name = name.to_owned();
        self.connections()
            .read(move |it| {
                Ok(it
                    .prepare_cached(
                        "SELECT digest, text, by, at_ms, confirmed, approval, taken_away FROM in_force
                         WHERE kind = ?1 AND name = ?2",
                    )?
                    .query_row(params![subject.word(), name], |row| {
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
                    .optional()?)
            })
            .await
    }

    /// What came into force by an approval after it was recorded last: who decided it and by which approval, by the
    /// subject's name in the record of what is in force.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn unrecorded(&self) -> Result<BTreeMap<String, (String, String)>, LedgerError> {
        self.connections()
            .read(|it| {
                let mut query = it.prepare_cached(
                    "SELECT r.subject, f.by, f.approval FROM in_force AS f JOIN recorded AS r
                     ON r.subject = f.kind || CASE f.name WHEN '' THEN '' ELSE ' ' || f.name END
                     WHERE f.approval IS NOT NULL AND f.at_ms > r.at_ms",
                )?;
                let rows =
                    query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Brings a text into force, in place of the one before. What people said to changes of the one before counts no
    /// more.
    ///
    /// # Errors
    /// When the ledger cannot be used; nothing has changed then.
    pub async fn bring_into_force(&self, adopt: Adopt) -> Result<Brought, LedgerError> {
        // What is leased of a counter that another one takes over is not used.
        let from = adopt
            .heirs
            .iter()
            .flat_map(|heir| heir.of.iter().flatten().cloned());
        let from = from.collect();
        let returned = self
            .return_leases_of(&adopt.account, &adopt.name, from)
            .await?;
        let brought = self.connections().write(move |it| bring(it, &adopt)).await;
        drop(returned);
        brought
    }

    /// The plugins whose manifests are in force and were not taken away.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn manifests_in_force(&self) -> Result<Vec<String>, LedgerError> {
        self.connections()
            .read(|it| {
                let mut query = it.prepare_cached(
                    "SELECT name FROM in_force WHERE kind = ?1 AND NOT taken_away",
                )?;
                let names = query.query_map([Subject::Manifest.word()], |row| row.get(0))?;
                Ok(names.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The file of a plugin's manifest is gone: it gives nothing any more. What its counters have counted stays.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn take_manifest_away(&self, plugin: &str) -> Result<(), LedgerError> {
        let plugin = plugin.to_owned();
        self.connections()
            .write(move |it| {
                it.prepare_cached(
                    "UPDATE in_force SET taken_away = 1 WHERE kind = ?1 AND name = ?2",
                )?
                .execute(params![Subject::Manifest.word(), plugin])?;
                Ok(())
            })
            .await
    }

    /// Whether this data folder has adopted what was there when it was new.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn has_adopted(&self) -> Result<bool, LedgerError> {
        self.connections()
            .read(|it| {
                let query = "SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?1)";
                Ok(it
                    .prepare_cached(query)?
                    .query_row([ADOPTED], |row| row.get(0))?)
            })
            .await
    }

    /// From now on nothing is adopted because the data folder is new.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn set_adopted(&self) -> Result<(), LedgerError> {
        self.connections()
            .write(|it| {
                it.prepare_cached("INSERT OR IGNORE INTO meta VALUES (?1, '')")?
                    .execute([ADOPTED])?;
                Ok(())
            })
            .await
    }
}

fn bring(connection: &Connection, adopt: &Adopt) -> Result<Brought, LedgerError> {
    if let Some(approval) = &adopt.approval {
        let used = connection
            .prepare_cached(
                "UPDATE approvals SET status = 'used' WHERE id = ?1 AND status = 'approved' AND expires_ms > ?2",
            )?
            .execute(params![approval, adopt.now])?;
        if used == 0 {
            return Ok(Brought::NotApproved);
        }
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO in_force (kind, name, digest, text, by, at_ms, confirmed, approval)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7)",
        )?
        .execute(params![
            adopt.subject.word(),
            adopt.name,
            adopt.digest,
            adopt.text,
            adopt.by,
            adopt.now,
            adopt.approval
        ])?;
    let closed = close_changes(connection, adopt.subject, &adopt.name, None, OTHER_IN_FORCE)?;
    Counter::hand_over(
        connection,
        [&adopt.account, &adopt.name],
        &adopt.heirs,
        adopt.now,
    )?;
    Ok(Brought::InForce(closed))
}
