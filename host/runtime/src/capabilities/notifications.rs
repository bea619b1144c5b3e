//! Messages to people: `quantconnect:api/notifications`.

use crate::contract::quantconnect::api::notifications::{Error, Host, add_to_linker};

capability! {
    send_email_notification(address: String, subject: String, message: String) -> ();
    send_sms_notification(phone_number: String, message: String) -> ();
    send_telegram_notification(chat_id: String, message: String) -> ();
}
