//! Announces that the authorization of an account is about to end, and that it ended: only a person can prolong it.
//!
//! Invariant: each of the two is announced once for a token, in the log and in the record, also if the host is started
//! again in between. One that the host renews by itself is not announced.

use std::time::Duration;

use qchost_gate::AdminAction;
use qchost_upstream::{Authorization, Ending};
use tokio::time::MissedTickBehavior;

use crate::host::Host;
use crate::identity_changes;
use crate::requests::account_detail;

/// How often the ends are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Announces ends while it is polled, and records which accounts are not as they were.
pub async fn keep_announcing(host: &Host) {
    let mut due = tokio::time::interval(CHECK_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        identity_changes::record(host).await;
        let names: Vec<String> = host.current().config.account.keys().cloned().collect();
        for name in names {
            if let Some(authorization) = host.connections.authorizations.get(&name)
                && let Some(ending) = authorization.ending()
            {
                announce(host, &name, &authorization, ending).await;
            }
        }
    }
}

async fn announce(host: &Host, account: &str, authorization: &Authorization, ending: Ending) {
    let ends = format!("{:.0}", ending.ends);
    let detail = account_detail(account, Some(ending.ends), None);
    let action = match ending.is_over {
        true => AdminAction::AccountAuthorizationEnded,
        false => AdminAction::AccountAuthorizationExpiring,
    };
    if let Err(error) = host.gate.note_host(action, detail).await {
        // Tried again at the next look.
        tracing::error!(target: "host", account, %error, "the end of an authorization cannot be recorded");
        return;
    }
    let what = action.word();
    match ending.is_over {
        true => tracing::warn!(
            target: "host", account, event = what,
            "the authorization of the account `{account}` ended at {ends}; calls that need it fail until a person logs in: \
             qchost account login {account}"
        ),
        false => tracing::warn!(
            target: "host", account, event = what,
            "the authorization of the account `{account}` ends at {ends}; to prolong it, a person logs in: qchost account login {account}"
        ),
    }
    authorization.announced(ending).await;
}
