//! Organisations: `quantconnect:api/organizations`.

use crate::contract::quantconnect::api::organizations::{
    Error, Host, Organization, OrganizationId, OrganizationSummary, add_to_linker,
};

capability! {
    list_organizations() -> Vec<OrganizationSummary>;
    read_organization(organization_id: OrganizationId) -> Organization;
}
