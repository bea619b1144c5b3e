//! Records that the first endpoint of an account turned out to be another user's, such as after its credentials were replaced.

use qchost_gate::AdminAction;
use qchost_upstream::account_of;

use crate::host::Host;
use crate::requests::account_detail;

/// Records each change once. One that cannot be recorded is tried again the next time.
pub async fn record(host: &Host) {
    let identities = &host.connections.identities;
    for (connection, change) in identities.unrecorded() {
        let detail = account_detail(account_of(&connection), None, Some(change.to_string()));
        let action = AdminAction::AccountUserChanged;
        if let Err(error) = host.gate.note_host(action, detail).await {
            tracing::error!(target: "host", connection, %error, "that the account is another user's cannot be recorded");
            return;
        }
        identities.recorded(&connection, &change);
    }
}
