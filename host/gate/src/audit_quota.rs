//! Limits how much of the audit the calls of one plugin may fill per day.
//!
//! Invariant: a plugin that has used up its share makes no more calls until the day ends, except risk-reducing ones.
//! The count is kept in memory: a restart resets it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use qchost_audit::{Entry, MAX_BODY};
use qchost_catalog::{Access, length_of_members};
use qchost_ledger::{day_of, until_end};

use crate::call::CallRequest;
use crate::clock::now;
use crate::refusal::Refusal;

/// The shares that plugins have used on a day.
pub(crate) struct AuditQuotas {
    limit: u64,
    used: Mutex<HashMap<String, Used>>,
}

/// A day, in days since 1970, and bytes.
#[derive(Clone, Copy, Default)]
struct Used {
    day: i64,
    bytes: u64,
}

impl AuditQuotas {
    /// `limit`: bytes per day and plugin.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::default(),
        }
    }

    /// Counts a record of a call.
    pub(crate) fn count(&self, plugin: &str, entry: &Entry) {
        let bytes = length_of_members(&entry.body).min(MAX_BODY);
        let day = day_of(now());
        let mut all = self.used.lock();
        let used = match all.get_mut(plugin) {
            Some(used) => used,
            None => all.entry(plugin.to_owned()).or_default(),
        };
        if used.day != day {
            *used = Used { day, bytes: 0 };
        }
        used.bytes = used
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Refuses a call of a plugin that has used up its share.
    pub(crate) fn check(&self, request: &CallRequest) -> Result<(), Refusal> {
        let now = now();
        let day = day_of(now);
        let all = self.used.lock();
        let is_full = all
            .get(request.plugin())
            .is_some_and(|used| used.day == day && used.bytes >= self.limit);
        if !is_full || request.access == Access::Reduce || request.principal.is_operator() {
            return Ok(());
        }
        let left = until_end(day, now);
        Err(Refusal::Exhausted {
            message: format!(
                "the records of this plugin's calls have filled its share of the audit, {} MiB a day",
                self.limit >> 20
            ),
            grant: "every grant".to_owned(),
            budget: "audit",
            resets_in: Some(Duration::from_millis(left.unsigned_abs())),
        })
    }
}
