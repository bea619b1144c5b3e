//! Notifications: nothing is sent. What a client asked for is in the request log.

use serde_json::json;

use super::workspace::Workspace;
use crate::services::answer::{Answer, Reply};
use crate::services::arguments::Arguments;
use crate::store::State;

/// Says that a message was sent, after its texts were checked.
fn sent(arguments: &Arguments, texts: &[&str]) -> Answer {
    for name in texts {
        arguments.filled_text(name)?;
        arguments.note(name)?;
    }
    Reply::success(json!({"sent": true}))
}

pub(super) fn email(_: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    sent(arguments, &["address", "subject", "message"])
}

pub(super) fn sms(_: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    sent(arguments, &["phoneNumber", "message"])
}

pub(super) fn telegram(_: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    sent(arguments, &["id", "message"])
}
