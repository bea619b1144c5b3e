//! Permits: what an approval allows, and how often.
//!
//! Invariant: a permit is spent in the transaction that reserves the call, and never more often, for more money, later or
//! by another caller than was approved.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::Value;

use crate::approval::{Approval, Binding, StandingPermit};
use crate::counters::{ATTEMPTS_PER_CALL, Dollars, amount, stored};
use crate::error::LedgerError;
use crate::identifier;
use crate::ledger::Ledger;
use crate::reservation::{BeginError, NewReservation, PermitUse};
use crate::statements::Statements as _;

/// A valid permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Permit {
    /// Its id, `pm-…`.
    pub id: String,
    /// The approval that created it.
    pub approval: String,
    /// Whether it covers any call of its operation and scope, or a single call only.
    pub standing: bool,
    /// The remaining number of uses.
    pub uses_left: u32,
    /// The remaining cost of its calls, in 1/10000 dollar; no limit if absent.
    pub cost_left: Option<u64>,
    /// Its expiry. Unix time in milliseconds.
    pub expires: i64,
}

impl Ledger {
    /// The permit for a call, if there is one: preferably one for exactly this call, otherwise the standing one that
    /// expires first. `scope` is the scope that a standing permit must have, `cost` in 1/10000 dollar.
    ///
    /// Finding a permit does not use it: [`begin`](Self::begin) does, and checks again.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn find_permit(
        &self,
        binding: &Binding,
        scope: &Value,
        cost: u64,
        now: i64,
    ) -> Result<Option<Permit>, LedgerError> {
        let sql = "SELECT id, approval, standing, uses_left, cost_left, expires_ms FROM permits
            WHERE account = ?1 AND plugin = ?2 AND digest = ?3 AND operation = ?4
              AND ((standing = 0 AND profile_revision = ?5 AND arguments_hmac = ?6)
                   OR (standing = 1 AND scope = ?7))
              AND revoked_ms IS NULL AND uses_left > 0 AND attempts_left > 0
              AND (cost_left IS NULL OR cost_left >= ?8) AND expires_ms > ?9
            ORDER BY standing, expires_ms, id LIMIT 1";
        let of = binding.clone();
        let values = (
            of.account,
            of.plugin,
            of.digest,
            of.operation,
            of.profile_revision,
            of.arguments_hmac,
            canonical(scope),
            stored(cost),
            now,
        );
        self.connections().row(sql, values, read).await
    }

    /// The permit that an approval created, used up or not.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn permit_of(&self, approval: &str) -> Result<Option<Permit>, LedgerError> {
        let sql = "SELECT id, approval, standing, uses_left, cost_left, expires_ms FROM permits
            WHERE approval = ?1";
        self.connections()
            .row(sql, [approval.to_owned()], read)
            .await
    }
}

/// Canonical JSON text: equal for equal values, whatever the order of their keys.
pub(crate) fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

fn read(row: &Row<'_>) -> Result<Permit, rusqlite::Error> {
    Ok(Permit {
        id: row.get(0)?,
        approval: row.get(1)?,
        standing: row.get(2)?,
        uses_left: row.get(3)?,
        cost_left: row.get::<_, Option<i64>>(4)?.map(amount),
        expires: row.get(5)?,
    })
}

/// Takes one use and its cost from the permit, or returns why it cannot be used.
pub(crate) fn spend(
    connection: &Connection,
    what: &PermitUse,
    begin: &NewReservation,
) -> Result<(), BeginError> {
    type PermitRow = (String, String, Option<i64>, i64, i64, Option<i64>, i64);
    let sql = "SELECT account, plugin, revoked_ms, attempts_left, uses_left, cost_left, expires_ms
        FROM permits WHERE id = ?1";
    let found: Option<PermitRow> = connection.row(sql, [&what.permit], |row| row.try_into())?;
    let cost = stored(what.cost);
    let why = match found {
        None => "does not exist".to_owned(),
        Some((account, plugin, ..)) if account != begin.account || plugin != begin.plugin => {
            "was given to another plugin or for another account".to_owned()
        }
        Some((_, _, Some(_), ..)) => "was revoked".to_owned(),
        Some((.., expires)) if expires <= begin.now => "has expired".to_owned(),
        Some((.., uses, _, _)) if uses < 1 => "is used up".to_owned(),
        Some((_, _, _, attempts, ..)) if attempts < 1 => {
            "is used up: too many of its calls were refused by the server".to_owned()
        }
        Some((.., Some(left), _)) if left < cost => {
            format!(
                "covers only {} more, and this costs {}",
                Dollars(left),
                Dollars(cost)
            )
        }
        Some(_) => {
            let sql =
                "UPDATE permits SET uses_left = uses_left - 1, attempts_left = attempts_left - 1,
                cost_left = cost_left - ?2 WHERE id = ?1";
            connection.change(sql, params![what.permit, cost])?;
            return Ok(());
        }
    };
    Err(BeginError::PermitGone {
        permit: what.permit.clone(),
        why,
    })
}

/// Returns one use and its cost, and the attempt too unless the server saw the call.
pub(crate) fn return_use(
    connection: &Connection,
    permit: &str,
    cost: i64,
    refused: bool,
) -> Result<(), LedgerError> {
    let sql = "UPDATE permits SET uses_left = uses_left + 1, attempts_left = attempts_left + ?3,
        cost_left = cost_left + ?2 WHERE id = ?1";
    connection.change(sql, params![permit, cost, i64::from(!refused)])?;
    Ok(())
}

/// Creates the permit of an approval: standing if all approvers granted that, otherwise for its single call until
/// `expires`.
pub(crate) fn create(
    connection: &Connection,
    approval: &Approval,
    standing: Option<StandingPermit>,
    expires: i64,
) -> Result<(), LedgerError> {
    let of = &approval.binding;
    // The approver saw the cost of a single call: if it gets more expensive, it needs another approval.
    let (uses, cost, expires) = match &standing {
        Some(it) => (it.uses, it.max_cost, it.until_ms),
        None => (1, Some(approval.cost), expires),
    };
    let single = standing.is_none();
    let sql = "INSERT INTO permits (id, approval, standing, account, plugin, digest, operation, profile_revision,
            arguments_hmac, scope, uses_left, attempts_left, cost_left, expires_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11 * ?14, ?12, ?13)";
    let values = params![
        identifier::new("pm")?,
        approval.id,
        !single,
        of.account,
        of.plugin,
        of.digest,
        of.operation,
        single.then_some(&of.profile_revision),
        single.then_some(&of.arguments_hmac),
        canonical(&approval.scope),
        uses,
        cost.map(stored),
        expires,
        ATTEMPTS_PER_CALL,
    ];
    connection.change(sql, values)?;
    Ok(())
}
