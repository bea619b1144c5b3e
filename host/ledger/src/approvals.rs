//! Approvals: asked for by a call, decided by people, and turned into permits.
//!
//! Invariant: a permit comes from exactly one approval, which as many distinct people as it needs have approved before it
//! expired, and which nobody refused.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::approval::{
    Approval, ApprovalError, ApprovalKind, Binding, DecisionBy, NewApproval, RequestError,
    Standing, Status, Verdict,
};
use crate::budgets::{amount, stored};
use crate::error::LedgerError;
use crate::identifier;
use crate::ledger::Ledger;
use crate::permits::{self, canonical};

/// The most approvals of one plugin that wait for a decision.
const MAX_PENDING: u32 = 100;
/// How long approvals are kept after they have expired, in milliseconds: 90 days. The audit keeps them longer.
const KEPT_MS: i64 = 90 * 86_400_000;

impl Ledger {
    /// Asks for an approval.
    ///
    /// If the same was asked for before and still stands, that one is returned: pending, approved and not used, or
    /// refused not long ago, so that a plugin that repeats a call sees what became of it. "The same" has the same
    /// binding and scope, costs no more and needs no more people.
    ///
    /// # Errors
    /// When the plugin has too many pending, or the ledger cannot be used.
    pub async fn request_approval(&self, new: NewApproval) -> Result<Approval, RequestError> {
        self.connections().write(move |it| request(it, &new)).await
    }

    /// An approval by its id.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approval(&self, id: &str, now: i64) -> Result<Option<Approval>, LedgerError> {
        let id = id.to_owned();
        self.connections().read(move |it| load(it, &id, now)).await
    }

    /// The approvals that wait for a decision, or all that are kept; oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approvals(&self, all: bool, now: i64) -> Result<Vec<Approval>, LedgerError> {
        self.connections()
            .read(move |it| {
                let mut query = it.prepare_cached(
                    "SELECT id FROM approvals WHERE ?1 OR (status = 'pending' AND expires_ms > ?2)
                     ORDER BY requested_ms, id",
                )?;
                let ids = query.query_map(params![all, now], |row| row.get::<_, String>(0))?;
                let mut found = Vec::new();
                for id in ids {
                    found.extend(load(it, &id?, now)?);
                }
                Ok(found)
            })
            .await
    }

    /// One person's yes. The last one that is needed gives the permit: for the one call, until `permit_expires_ms`, or a
    /// standing one. If two persons offer different terms, the narrower ones hold.
    ///
    /// # Errors
    /// When there is no such approval, it waits for no decision, this person may not decide, or the ledger cannot be used.
    pub async fn approve(
        &self,
        id: &str,
        uid: u32,
        name: &str,
        standing: Option<Standing>,
        permit_expires_ms: i64,
        now: i64,
    ) -> Result<Approval, ApprovalError> {
        let decision = DecisionBy {
            uid,
            name: name.to_owned(),
            at: now,
            verdict: Verdict::Approved,
            reason: String::new(),
            standing,
        };
        let id = id.to_owned();
        self.connections()
            .write(move |it| say_yes(it, &id, decision, permit_expires_ms))
            .await
    }

    /// One person's no, which is enough.
    ///
    /// # Errors
    /// When there is no such approval, it waits for no decision, or the ledger cannot be used.
    pub async fn refuse(
        &self,
        id: &str,
        uid: u32,
        name: &str,
        reason: &str,
        now: i64,
    ) -> Result<Approval, ApprovalError> {
        let decision = DecisionBy {
            uid,
            name: name.to_owned(),
            at: now,
            verdict: Verdict::Refused,
            reason: reason.to_owned(),
            standing: None,
        };
        let id = id.to_owned();
        self.connections()
            .write(move |it| {
                pending(it, &id, now)?;
                record(it, &id, &decision)?;
                set_status(it, &id, "refused")?;
                load(it, &id, now)?.ok_or(ApprovalError::Unknown(id))
            })
            .await
    }
}

fn request(connection: &Connection, new: &NewApproval) -> Result<Approval, RequestError> {
    if let Some(standing) = same(connection, new)? {
        return Ok(standing);
    }
    prune(connection, new.now)?;
    let of = &new.binding;
    let pending: u32 = connection
        .prepare_cached(
            "SELECT count(*) FROM approvals
             WHERE account = ?1 AND plugin = ?2 AND status = 'pending' AND expires_ms > ?3",
        )?
        .query_row(params![of.account, of.plugin, new.now], |row| row.get(0))?;
    if pending >= MAX_PENDING {
        return Err(RequestError::TooManyPending {
            plugin: of.plugin.clone(),
            limit: MAX_PENDING,
        });
    }
    let id = identifier::new("ap")?;
    connection
        .prepare_cached(
            "INSERT INTO approvals (id, kind, account, plugin, digest, operation, profile_revision, arguments_hmac,
                 view, needs, requester, scope, cost, requested_ms, expires_ms, status)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 'pending')",
        )?
        .execute(params![
            id,
            kind_name(new.kind),
            of.account,
            of.plugin,
            of.digest,
            of.operation,
            of.profile_revision,
            of.arguments_hmac,
            new.view.to_string(),
            new.needs,
            new.requester,
            canonical(&new.scope),
            stored(new.cost),
            new.now,
            new.expires,
        ])?;
    let made = load(connection, &id, new.now)?;
    Ok(made.ok_or_else(|| LedgerError::Content {
        place: "approvals",
        why: format!("{id} was written and cannot be found"),
    })?)
}

/// The approval that already answers this request, if one does.
fn same(connection: &Connection, new: &NewApproval) -> Result<Option<Approval>, LedgerError> {
    let of = &new.binding;
    let mut query = connection.prepare_cached(
        "SELECT id FROM approvals
         WHERE account = ?1 AND plugin = ?2 AND digest = ?3 AND operation = ?4 AND profile_revision = ?5
           AND arguments_hmac = ?6 AND kind = ?7 AND scope = ?8
         ORDER BY requested_ms DESC, id",
    )?;
    let values = params![
        of.account,
        of.plugin,
        of.digest,
        of.operation,
        of.profile_revision,
        of.arguments_hmac,
        kind_name(new.kind),
        canonical(&new.scope)
    ];
    let ids: Vec<String> = query
        .query_map(values, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in ids {
        let Some(found) = load(connection, &id, new.now)? else {
            continue;
        };
        let stands = match found.status {
            Status::Refused => found.expires > new.now,
            Status::Pending => found.cost >= new.cost && found.needs >= new.needs,
            Status::Approved => {
                found.needs >= new.needs
                    && match new.kind {
                        ApprovalKind::Call => covers(connection, &id, new.cost)?,
                        ApprovalKind::Component => found.expires > new.now,
                    }
            }
            Status::Expired | Status::Used => false,
        };
        if stands {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether the approval's permit has so much money left.
fn covers(connection: &Connection, approval: &str, cost: u64) -> Result<bool, LedgerError> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM permits WHERE approval = ?1 AND (cost_left IS NULL OR cost_left >= ?2))",
        )?
        .query_row(params![approval, stored(cost)], |row| row.get(0))?)
}

fn say_yes(
    connection: &Connection,
    id: &str,
    decision: DecisionBy,
    permit_expires: i64,
) -> Result<Approval, ApprovalError> {
    let now = decision.at;
    let approval = pending(connection, id, now)?;
    if approval.needs >= 2 && approval.requester == Some(decision.uid) {
        return Err(ApprovalError::Requester);
    }
    if approval.decisions.iter().any(|it| it.uid == decision.uid) {
        return Err(ApprovalError::SamePerson);
    }
    record(connection, id, &decision)?;
    let said_yes = approval.decisions.len().saturating_add(1);
    if said_yes >= usize::from(approval.needs) {
        set_status(connection, id, "approved")?;
        if approval.kind == ApprovalKind::Call {
            // Standing only if each of them meant it to be.
            let standing = approval
                .decisions
                .iter()
                .map(|it| it.standing)
                .fold(decision.standing, |all, one| Some(all?.narrowest(one?)));
            permits::give(connection, &approval, standing, permit_expires)?;
        }
    }
    load(connection, id, now)?.ok_or_else(|| ApprovalError::Unknown(id.to_owned()))
}

/// The approval, if it can be decided.
fn pending(connection: &Connection, id: &str, now: i64) -> Result<Approval, ApprovalError> {
    let approval = load(connection, id, now)?;
    let approval = approval.ok_or_else(|| ApprovalError::Unknown(id.to_owned()))?;
    if approval.status == Status::Pending {
        Ok(approval)
    } else {
        Err(ApprovalError::NotPending(approval.status))
    }
}

fn record(connection: &Connection, id: &str, decision: &DecisionBy) -> Result<(), LedgerError> {
    let standing = decision
        .standing
        .map(|it| serde_json::to_string(&it))
        .transpose()
        .map_err(|error| unreadable("decisions.standing", &error))?;
    let verdict = match decision.verdict {
        Verdict::Approved => "approved",
        Verdict::Refused => "refused",
    };
    // A person may refuse what that person has approved, as long as it waits for another one.
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO decisions (approval, uid, name, at_ms, verdict, reason, standing)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id,
            decision.uid,
            decision.name,
            decision.at,
            verdict,
            decision.reason,
            standing
        ])?;
    Ok(())
}

fn set_status(connection: &Connection, id: &str, status: &str) -> Result<(), LedgerError> {
    connection
        .prepare_cached("UPDATE approvals SET status = ?2 WHERE id = ?1")?
        .execute(params![id, status])?;
    Ok(())
}

/// Forgets what expired long ago.
fn prune(connection: &Connection, now: i64) -> Result<(), LedgerError> {
    connection
        .prepare_cached(
            "DELETE FROM approvals WHERE expires_ms < ?1 AND NOT EXISTS
             (SELECT 1 FROM permits WHERE approval = approvals.id AND permits.expires_ms >= ?1)",
        )?
        .execute([now.saturating_sub(KEPT_MS)])?;
    Ok(())
}

fn load(connection: &Connection, id: &str, now: i64) -> Result<Option<Approval>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT a.kind, a.account, a.plugin, a.digest, a.operation, a.profile_revision, a.arguments_hmac, a.view,
                a.needs, a.requester, a.scope, a.cost, a.requested_ms, a.expires_ms, a.status,
                p.uses_left, p.expires_ms
         FROM approvals AS a LEFT JOIN permits AS p ON p.approval = a.id WHERE a.id = ?1",
    )?;
    let mut rows = query.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(Approval {
        id: id.to_owned(),
        kind: match row.get_ref(0)?.as_str() {
            Ok("component") => ApprovalKind::Component,
            _ => ApprovalKind::Call,
        },
        binding: Binding {
            account: row.get(1)?,
            plugin: row.get(2)?,
            digest: row.get(3)?,
            operation: row.get(4)?,
            profile_revision: row.get(5)?,
            arguments_hmac: row.get(6)?,
        },
        view: json("approvals.view", &row.get::<_, String>(7)?)?,
        needs: row.get(8)?,
        requester: row.get(9)?,
        scope: json("approvals.scope", &row.get::<_, String>(10)?)?,
        cost: amount(row.get(11)?),
        requested: row.get(12)?,
        expires: row.get(13)?,
        status: status(row, now)?,
        decisions: decisions(connection, id)?,
    }))
}

fn status(row: &Row<'_>, now: i64) -> Result<Status, LedgerError> {
    let stored: String = row.get(14)?;
    let permit: (Option<u32>, Option<i64>) = (row.get(15)?, row.get(16)?);
    Ok(match (stored.as_str(), permit) {
        ("pending", _) if row.get::<_, i64>(13)? <= now => Status::Expired,
        ("pending", _) => Status::Pending,
        ("approved", (Some(0), _)) => Status::Used,
        ("approved", (_, Some(expires))) if expires <= now => Status::Expired,
        ("approved", _) => Status::Approved,
        _ => Status::Refused,
    })
}

fn decisions(connection: &Connection, id: &str) -> Result<Vec<DecisionBy>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT uid, name, at_ms, verdict, reason, standing FROM decisions WHERE approval = ?1
         ORDER BY at_ms, uid",
    )?;
    let mut rows = query.query([id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let standing: Option<String> = row.get(5)?;
        let standing = standing.map(|text| serde_json::from_str(&text)).transpose();
        found.push(DecisionBy {
            uid: row.get(0)?,
            name: row.get(1)?,
            at: row.get(2)?,
            verdict: match row.get_ref(3)?.as_str() {
                Ok("approved") => Verdict::Approved,
                _ => Verdict::Refused,
            },
            reason: row.get(4)?,
            standing: standing.map_err(|error| unreadable("decisions.standing", &error))?,
        });
    }
    Ok(found)
}

fn kind_name(kind: ApprovalKind) -> &'static str {
    match kind {
        ApprovalKind::Call => "call",
        ApprovalKind::Component => "component",
    }
}

fn json(place: &'static str, text: &str) -> Result<Value, LedgerError> {
    serde_json::from_str(text).map_err(|error| unreadable(place, &error))
}

fn unreadable(place: &'static str, error: &serde_json::Error) -> LedgerError {
    LedgerError::Content {
        place,
        why: error.to_string(),
    }
}
