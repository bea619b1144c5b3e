//! The account: `quantconnect:api/account`.

use crate::contract::quantconnect::api::account::{
    AccountSummary, Error, Host, OrganizationId, add_to_linker,
};

capability! {
    read_account() -> AccountSummary;
    read_organization_account(organization_id: OrganizationId) -> AccountSummary;
}
