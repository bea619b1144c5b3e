//! Approvals: requested by calls, decided by people, and turned into permits.
//!
//! Invariant: a permit comes from exactly one approval, which the required number of distinct people approved before it
//! expired, and which was not refused.

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use crate::approval::{
    Approval, ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, ApprovalVote, Binding,
    DecisionBy, NewApproval, PermitState, RequestError, StandingPermit, Status,
};
use crate::counters::{amount, stored};
use crate::error::LedgerError;
use crate::identifier;
use crate::ledger::Ledger;
use crate::permits::{self, canonical};
use crate::statements::Statements as _;
use crate::subject::Subject;

/// Where the terms of a standing permit are stored.
const STANDING_COLUMN: &str = "decisions.standing";
/// Maximum pending approvals of one plugin.
const MAX_PENDING: u32 = 100;
/// Maximum bytes of one plugin's pending requests.
const MAX_PENDING_BYTES: u64 = 8 << 20;
/// Maximum approvals of one plugin that are kept although they were not decided in time.
const MAX_UNDECIDED: u32 = 1_000;
/// How long approvals are kept after they have expired, in milliseconds: 90 days. The audit keeps them longer.
const APPROVAL_TTL_MS: i64 = 90 * 86_400_000;

impl Ledger {
    /// Requests an approval.
    ///
    /// If an equivalent request exists that is pending, approved and unused, or recently refused, that one is returned, so
    /// that a plugin that repeats a call sees its status. An equivalent request has the same binding and scope, costs no
    /// less and needs no fewer people.
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

    /// The call's arguments as JSON, if the approval's view does not contain all of them.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approval_contents(&self, id: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT arguments FROM approval_contents WHERE approval = ?1";
        self.connections()
            .row(sql, [id.to_owned()], |row| row.get(0))
            .await
    }

    /// The pending approvals, or all that are kept, one page at a time.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn approvals(
        &self,
        filter: ApprovalFilter,
        now: i64,
    ) -> Result<ApprovalPage, LedgerError> {
        self.connections()
            .read(move |it| page(it, &filter, now))
            .await
    }

    /// The components that await approval, as pairs of plugin and approval id.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn waiting_components(&self, now: i64) -> Result<Vec<(String, String)>, LedgerError> {
        let sql = "SELECT plugin, id FROM approvals
            WHERE kind = 'component' AND status = 'pending' AND expires_ms > ?1 ORDER BY requested_ms, id";
        self.connections()
            .rows(sql, [now], |row| row.try_into())
            .await
    }

    /// Notes that the client was told of these approvals, so that it can come back to them.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn mark_approvals_announced(&self, ids: Vec<String>) -> Result<(), LedgerError> {
        self.connections()
            .write(move |it| {
                for id in ids {
                    it.change("UPDATE approvals SET untold = 0 WHERE id = ?1", [id])?;
                }
                Ok(())
            })
            .await
    }

    /// Closes those of these approvals that are pending and that no client was told of; of all approvals, if `ids` is
    /// `None`. Returns which were closed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn close_approvals(
        &self,
        ids: Option<Vec<String>>,
        why: &str,
        now: i64,
    ) -> Result<Vec<String>, LedgerError> {
        let why = why.to_owned();
        self.connections()
            .write(move |it| {
                let ids = match ids {
                    Some(ids) => ids,
                    None => {
                        let sql = "SELECT id FROM approvals
                            WHERE untold = 1 AND status = 'pending' AND expires_ms > ?1";
                        it.rows::<String, Vec<_>>(sql, [now], |row| row.get(0))?
                    }
                };
                let sql = "UPDATE approvals SET status = 'closed', closed = ?2
                    WHERE id = ?1 AND untold = 1 AND status = 'pending' AND expires_ms > ?3";
                close_each(it, sql, ids, &why, now)
            })
            .await
    }

    /// The pending requests of a plugin's calls, oldest first and without their views.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn pending_calls(
        &self,
        plugin: &str,
        now: i64,
    ) -> Result<Vec<Approval>, LedgerError> {
        let plugin = plugin.to_owned();
        self.connections()
            .read(move |it| {
                let sql = "SELECT id FROM approvals
                    WHERE plugin = ?1 AND kind = 'call' AND status = 'pending' AND expires_ms > ?2
                    ORDER BY requested_ms, id";
                let ids: Vec<String> = it.rows(sql, params![plugin, now], |row| row.get(0))?;
                let mut found = Vec::new();
                for id in ids {
                    found.extend(load_without(it, &id, now)?);
                }
                Ok(found)
            })
            .await
    }

    /// Closes those of these requests of calls that are pending, whether a client was told of them or not. Returns which were
    /// closed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn close_calls(
        &self,
        ids: Vec<String>,
        why: &str,
        now: i64,
    ) -> Result<Vec<String>, LedgerError> {
        let why = why.to_owned();
        self.connections()
            .write(move |it| {
                let sql = "UPDATE approvals SET status = 'closed', closed = ?2
                    WHERE id = ?1 AND kind = 'call' AND status = 'pending' AND expires_ms > ?3";
                close_each(it, sql, ids, &why, now)
            })
            .await
    }

    /// Revokes the permit of an approval, so that no further call can use it, or the approval of a change that has not come
    /// into force. `id` is that of the approval or of the permit.
    ///
    /// # Errors
    /// When there is no such approval, it has nothing to revoke, or the ledger cannot be used.
    pub async fn revoke(&self, id: &str, name: &str, now: i64) -> Result<Approval, ApprovalError> {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.connections()
            .write(move |it| {
                let sql = "SELECT approval FROM permits WHERE id = ?1";
                let of_permit = it.row(sql, [&id], |row| row.get::<_, String>(0))?;
                let approval = of_permit.unwrap_or_else(|| id.clone());
                let unknown = || ApprovalError::Unknown(id.clone());
                let found = load(it, &approval, now)?.ok_or_else(unknown)?;
                match (found.status, &found.permit, found.kind) {
                    (Status::Approved, Some(_), _) => {
                        let sql = "UPDATE permits SET revoked_ms = ?2, revoked_by = ?3 WHERE approval = ?1";
                        it.change(sql, params![approval, now, name])?;
                    }
                    (Status::Approved, None, ApprovalKind::Change) => {
                        let sql = "UPDATE approvals SET status = 'revoked', closed = ?2 WHERE id = ?1";
                        it.change(sql, params![approval, format!("revoked by {name}")])?;
                    }
                    _ => return Err(ApprovalError::NothingToRevoke(found.status)),
                }
                load(it, &approval, now)?.ok_or_else(unknown)
            })
            .await
    }

    /// Closes the approvals of changes of a subject that are pending or approved but unused, except `except`: an approval
    /// must not be used for something that the files no longer ask for. `name` is the plugin of a manifest, and empty
    /// otherwise. Returns which were closed.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn close_changes(
        &self,
        subject: Subject,
        name: &str,
        except: Option<&str>,
        why: &str,
    ) -> Result<Vec<String>, LedgerError> {
        let (name, except) = (name.to_owned(), except.map(str::to_owned));
        let why = why.to_owned();
        self.connections()
            .write(move |it| close_changes(it, subject, &name, except.as_deref(), &why))
            .await
    }

    /// Adds one person's approval. The last one needed creates the permit: for the single call, valid until
    /// `permit_expires_ms`, or a standing one. If two people offer different terms, the narrower ones apply.
    ///
    /// # Errors
    /// When there is no such approval, it is not pending, this person may not decide, or the ledger cannot be used.
    pub async fn approve(
        &self,
        id: &str,
        uid: u32,
        name: &str,
        standing: Option<StandingPermit>,
        permit_expires_ms: i64,
        now: i64,
    ) -> Result<Approval, ApprovalError> {
        let decision = DecisionBy {
            uid,
            name: name.to_owned(),
            at: now,
            verdict: ApprovalVote::Approved,
            reason: String::new(),
            standing,
        };
        let id = id.to_owned();
        self.connections()
            .write(move |it| record_consent(it, &id, decision, permit_expires_ms))
            .await
    }

    /// Adds one person's refusal, which is final.
    ///
    /// # Errors
    /// When there is no such approval, it is not pending, or the ledger cannot be used.
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
            verdict: ApprovalVote::Refused,
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
    if let Some(mut standing) = existing(connection, new)? {
        add_interested(connection, &standing.id, &new.interested)?;
        standing.interested = interested(connection, &standing.id)?;
        return Ok(standing);
    }
    prune(connection, new)?;
    let bytes = check_quota(connection, new)?;
    let of = &new.binding;
    let id = identifier::new("ap")?;
    let sql = "INSERT INTO approvals (id, kind, account, plugin, digest, operation, profile_revision, arguments_hmac,
            view, needs, requester, scope, cost, requested_ms, expires_ms, source, bytes, untold,
            status)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, 'pending')";
    let values = params![
        id,
        <&str>::from(new.kind),
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
        new.source,
        stored(bytes),
        new.unannounced,
    ];
    connection.change(sql, values)?;
    if let Some(contents) = &new.contents {
        let sql = "INSERT INTO approval_contents VALUES (?1, ?2)";
        connection.change(sql, params![id, contents])?;
    }
    add_interested(connection, &id, &new.interested)?;
    add_interested(connection, &id, &new.reload_requesters)?;
    let made = load(connection, &id, new.now)?;
    Ok(made.ok_or_else(|| LedgerError::Content {
        location: "approvals",
        why: format!("{id} was written and cannot be found"),
    })?)
}

/// The bytes that the request takes of its plugin's quota; an error if there are fewer left.
fn check_quota(connection: &Connection, new: &NewApproval) -> Result<u64, RequestError> {
    let of = &new.binding;
    let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let bytes = length(&new.view.to_string())
        .saturating_add(length(&canonical(&new.scope)))
        .saturating_add(new.contents.as_deref().map_or(0, length));
    // A request of the host must not wait for those of the plugin.
    if new.kind != ApprovalKind::Call {
        return Ok(bytes);
    }
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM approvals
        WHERE account = ?1 AND plugin = ?2 AND status = 'pending' AND kind = 'call' AND expires_ms > ?3";
    let values = params![of.account, of.plugin, new.now];
    let found: Option<(u32, i64)> = connection.row(sql, values, |row| row.try_into())?;
    let (pending, waiting) = found.unwrap_or_default();
    if pending >= MAX_PENDING {
        return Err(RequestError::TooManyPending {
            plugin: of.plugin.clone(),
            limit: MAX_PENDING,
        });
    }
    let waiting = amount(waiting);
    if bytes.saturating_add(waiting) > MAX_PENDING_BYTES {
        return Err(RequestError::TooLarge {
            plugin: of.plugin.clone(),
            bytes,
            waiting,
            limit: MAX_PENDING_BYTES,
        });
    }
    Ok(bytes)
}

pub(crate) fn close_changes(
    connection: &Connection,
    subject: Subject,
    name: &str,
    except: Option<&str>,
    why: &str,
) -> Result<Vec<String>, LedgerError> {
    // For any account of the manifest: a name has only one text in force.
    let sql = "UPDATE approvals SET status = 'closed', closed = ?4
        WHERE kind = 'change' AND status IN ('pending', 'approved') AND operation = ?1 AND plugin = ?2
          AND id IS NOT ?3
        RETURNING id";
    let values = params![subject.word(), name, except, why];
    Ok(connection.rows(sql, values, |row| row.get(0))?)
}

/// Closes those approvals that a statement still finds. Returns which were closed.
fn close_each(
    connection: &Connection,
    sql: &'static str,
    ids: Vec<String>,
    why: &str,
    now: i64,
) -> Result<Vec<String>, LedgerError> {
    let mut closed = Vec::new();
    for id in ids {
        if connection.change(sql, params![id, why, now])? > 0 {
            closed.push(id);
        }
    }
    Ok(closed)
}

fn add_interested(connection: &Connection, id: &str, uids: &[u32]) -> Result<(), LedgerError> {
    let sql = "INSERT OR IGNORE INTO interested (approval, uid) VALUES (?1, ?2)";
    for uid in uids {
        connection.change(sql, params![id, uid])?;
    }
    Ok(())
}

/// The existing approval that answers this request, if there is one.
fn existing(connection: &Connection, new: &NewApproval) -> Result<Option<Approval>, LedgerError> {
    let of = &new.binding;
    // One with a used or expired permit answers nothing, and there may be many of those.
    let sql = "SELECT a.id FROM approvals AS a LEFT JOIN permits AS p ON p.approval = a.id
        WHERE a.account = ?1 AND a.plugin = ?2 AND a.digest = ?3 AND a.operation = ?4 AND a.profile_revision = ?5
          AND a.arguments_hmac = ?6 AND a.kind = ?7 AND a.scope = ?8
          AND ((a.status IN ('pending', 'refused') AND a.expires_ms > ?9)
               OR (a.status = 'approved' AND p.id IS NULL AND a.expires_ms > ?9)
               OR (a.status = 'approved' AND p.uses_left > 0 AND p.expires_ms > ?9 AND p.revoked_ms IS NULL))
        ORDER BY a.requested_ms DESC, a.id";
    let values = params![
        of.account,
        of.plugin,
        of.digest,
        of.operation,
        of.profile_revision,
        of.arguments_hmac,
        <&str>::from(new.kind),
        canonical(&new.scope),
        new.now
    ];
    let ids: Vec<String> = connection.rows(sql, values, |row| row.get(0))?;
    for id in ids {
        let Some(found) = load(connection, &id, new.now)? else {
            continue;
        };
        let stands = match found.status {
            Status::Refused => true,
            Status::Pending => found.cost >= new.cost && found.needs >= new.needs,
            Status::Approved => {
                found.needs >= new.needs
                    && match new.kind {
                        ApprovalKind::Call => covers(connection, &id, new.cost)?,
                        ApprovalKind::Component => true,
                        ApprovalKind::Change => found.expires > new.now,
                    }
            }
            Status::Expired | Status::Used | Status::Revoked | Status::Closed => false,
        };
        if stands {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn page(
    connection: &Connection,
    filter: &ApprovalFilter,
    now: i64,
) -> Result<ApprovalPage, LedgerError> {
    const FILTER: &str = "(?1 OR (status = 'pending' AND expires_ms > ?2))
         AND (requested_ms, id) > (SELECT requested_ms, id FROM approvals WHERE id = ?3
                                   UNION ALL SELECT -1, '' LIMIT 1)";
    let after = filter.after.as_deref().unwrap_or_default();
    let sql = format!("SELECT id FROM approvals WHERE {FILTER} ORDER BY requested_ms, id LIMIT ?4");
    let values = params![filter.all, now, after, filter.limit];
    let ids: Vec<String> = connection.rows(&sql, values, |row| row.get(0))?;
    let mut approvals = Vec::new();
    for id in ids {
        approvals.extend(load_without(connection, &id, now)?);
    }
    let sql = format!("SELECT count(*) FROM approvals WHERE {FILTER}");
    let all: i64 = connection.value(&sql, params![filter.all, now, after])?;
    let listed = u64::try_from(approvals.len()).unwrap_or(u64::MAX);
    Ok(ApprovalPage {
        more: amount(all).saturating_sub(listed),
        approvals,
    })
}

/// Whether the approval's permit has at least `cost` left.
fn covers(connection: &Connection, approval: &str, cost: u64) -> Result<bool, LedgerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM permits
        WHERE approval = ?1 AND revoked_ms IS NULL AND (cost_left IS NULL OR cost_left >= ?2))";
    Ok(connection.value(sql, params![approval, stored(cost)])?)
}

fn record_consent(
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
    if approval.needs >= 2 && approval.interested.contains(&decision.uid) {
        return Err(ApprovalError::Interested);
    }
    if approval.decisions.iter().any(|it| it.uid == decision.uid) {
        return Err(ApprovalError::SamePerson);
    }
    record(connection, id, &decision)?;
    let said_yes = approval.yes().count().saturating_add(1);
    if said_yes >= usize::from(approval.needs) {
        set_status(connection, id, "approved")?;
        if approval.kind == ApprovalKind::Call {
            // Standing only if each approver granted a standing one.
            let standing = approval
                .decisions
                .iter()
                .map(|it| it.standing)
                .fold(decision.standing, |all, one| Some(all?.narrowest(one?)));
            permits::create(connection, &approval, standing, permit_expires)?;
        }
    }
    load(connection, id, now)?.ok_or_else(|| ApprovalError::Unknown(id.to_owned()))
}

fn interested(connection: &Connection, id: &str) -> Result<Vec<u32>, LedgerError> {
    let query = "SELECT uid FROM interested WHERE approval = ?1 ORDER BY uid";
    Ok(connection.rows(query, [id], |row| row.get(0))?)
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
        .map_err(LedgerError::content(STANDING_COLUMN))?;
    // An approver may still refuse while it waits for the other approver.
    let sql =
        "INSERT OR REPLACE INTO decisions (approval, uid, name, at_ms, verdict, reason, standing)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![
        id,
        decision.uid,
        decision.name,
        decision.at,
        <&str>::from(decision.verdict),
        decision.reason,
        standing
    ];
    connection.change(sql, values)?;
    Ok(())
}

fn set_status(connection: &Connection, id: &str, status: &str) -> Result<(), LedgerError> {
    let sql = "UPDATE approvals SET status = ?2 WHERE id = ?1";
    connection.change(sql, params![id, status])?;
    Ok(())
}

/// Removes approvals that expired long ago, and undecided ones of the plugin above the limit.
fn prune(connection: &Connection, new: &NewApproval) -> Result<(), LedgerError> {
    let (of, now) = (&new.binding, new.now);
    let sql = "DELETE FROM approvals WHERE expires_ms < ?1 AND NOT EXISTS
        (SELECT 1 FROM permits WHERE approval = approvals.id AND permits.expires_ms >= ?1)";
    connection.change(sql, [now.saturating_sub(APPROVAL_TTL_MS)])?;
    let sql = "DELETE FROM approvals WHERE id IN (
        SELECT id FROM approvals WHERE account = ?1 AND plugin = ?2
          AND ((status = 'pending' AND expires_ms <= ?3) OR status = 'closed')
        ORDER BY requested_ms DESC, id LIMIT -1 OFFSET ?4)";
    connection.change(sql, params![of.account, of.plugin, now, MAX_UNDECIDED])?;
    // They can no longer be shown before a decision.
    let sql = "DELETE FROM approval_contents WHERE approval IN (
        SELECT id FROM approvals WHERE account = ?1 AND plugin = ?2
          AND ((status = 'pending' AND expires_ms <= ?3)
               OR status IN ('closed', 'refused', 'revoked', 'used')))";
    connection.change(sql, params![of.account, of.plugin, now])?;
    Ok(())
}

fn load(connection: &Connection, id: &str, now: i64) -> Result<Option<Approval>, LedgerError> {
    let Some(mut approval) = load_without(connection, id, now)? else {
        return Ok(None);
    };
    let view: String = connection.value("SELECT view FROM approvals WHERE id = ?1", [id])?;
    approval.view = json("approvals.view", &view)?;
    Ok(Some(approval))
}

/// An approval without its view.
fn load_without(
    connection: &Connection,
    id: &str,
    now: i64,
) -> Result<Option<Approval>, LedgerError> {
    let mut query = connection.prepare_cached(
        "SELECT a.kind, a.account, a.plugin, a.digest, a.operation, a.profile_revision, a.arguments_hmac, a.closed,
                a.needs, a.requester, a.scope, a.cost, a.requested_ms, a.expires_ms, a.status, a.source,
                p.id, p.standing, p.uses_left, p.cost_left, p.expires_ms, p.revoked_ms, p.revoked_by
         FROM approvals AS a LEFT JOIN permits AS p ON p.approval = a.id WHERE a.id = ?1",
    )?;
    let mut rows = query.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let permit = permit(row)?;
    Ok(Some(Approval {
        id: id.to_owned(),
        kind: row
            .get::<_, String>(0)?
            .parse()
            .unwrap_or(ApprovalKind::Call),
        binding: Binding {
            account: row.get(1)?,
            plugin: row.get(2)?,
            digest: row.get(3)?,
            operation: row.get(4)?,
            profile_revision: row.get(5)?,
            arguments_hmac: row.get(6)?,
        },
        view: Value::Null,
        closed: row.get(7)?,
        needs: row.get(8)?,
        requester: row.get(9)?,
        scope: json("approvals.scope", &row.get::<_, String>(10)?)?,
        cost: amount(row.get(11)?),
        source: row.get(15)?,
        requested: row.get(12)?,
        expires: row.get(13)?,
        status: status(row, permit.as_ref(), now)?,
        decisions: decisions(connection, id)?,
        interested: interested(connection, id)?,
        permit,
    }))
}

fn permit(row: &Row<'_>) -> Result<Option<PermitState>, LedgerError> {
    let Some(id) = row.get(16)? else {
        return Ok(None);
    };
    let revoked: Option<i64> = row.get(21)?;
    let by: Option<String> = row.get(22)?;
    Ok(Some(PermitState {
        id,
        standing: row.get(17)?,
        uses_left: row.get(18)?,
        cost_left: row.get::<_, Option<i64>>(19)?.map(amount),
        expires: row.get(20)?,
        revoked_by: revoked.map(|_| by.unwrap_or_default()),
    }))
}

fn status(row: &Row<'_>, permit: Option<&PermitState>, now: i64) -> Result<Status, LedgerError> {
    let stored: String = row.get(14)?;
    Ok(match (stored.as_str(), permit) {
        ("pending", _) if row.get::<_, i64>(13)? <= now => Status::Expired,
        ("pending", _) => Status::Pending,
        ("closed", _) => Status::Closed,
        ("approved", Some(permit)) if permit.revoked_by.is_some() => Status::Revoked,
        ("approved", Some(permit)) if permit.uses_left == 0 => Status::Used,
        ("approved", Some(permit)) if permit.expires <= now => Status::Expired,
        ("approved", _) => Status::Approved,
        ("used", _) => Status::Used,
        ("revoked", _) => Status::Revoked,
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
        let verdict = row.get::<_, String>(3)?.parse();
        let standing: Option<String> = row.get(5)?;
        let standing = standing.map(|text| serde_json::from_str(&text)).transpose();
        found.push(DecisionBy {
            uid: row.get(0)?,
            name: row.get(1)?,
            at: row.get(2)?,
            verdict: verdict.unwrap_or(ApprovalVote::Refused),
            reason: row.get(4)?,
            standing: standing.map_err(LedgerError::content(STANDING_COLUMN))?,
        });
    }
    Ok(found)
}

fn json(column: &'static str, text: &str) -> Result<Value, LedgerError> {
    serde_json::from_str(text).map_err(LedgerError::content(column))
}
