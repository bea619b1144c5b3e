//! The account: `quantconnect:api/account`.

use crate::contract::quantconnect::api::account::{AccountSummary, Error, Host, add_to_linker};

capability! {
    read_account() -> AccountSummary;
}
