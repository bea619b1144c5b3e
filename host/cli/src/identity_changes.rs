//! Records that the first endpoint of an account is not as it was remembered, such as after its credentials were replaced by
//! another user's.

use qchost_gate::AdminAction;
use qchost_upstream::account_of;

use crate::host::Host;
use crate::requests::account_detail;

/// Records each change once. One that cannot be recorded is tried again the next time.
pub async fn record(host: &Host) {
    let identities = &host.connections.identities;
    for (connection, change) in identities.unrecorded() {
        let detail = account_detail(account_of(&connection), None, Some(change.to_string()));
        let action = AdminAction::AccountIdentityChanged;
        if let Err(error) = host.gate.note_host(action, detail).await {
            tracing::error!(target: "host", connection, %error, "that the account is not as it was cannot be recorded");
            return;
        }
        identities.recorded(&connection, &change);
    }
}
