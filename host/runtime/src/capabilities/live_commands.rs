//! Commands to running algorithms: `quantconnect:api/live-commands`.

use crate::contract::quantconnect::api::live_commands::{
    Error, Host, Json, OrganizationId, ProjectId, add_to_linker,
};

capability! {
    create_live_command(project_id: ProjectId, command: Json) -> ();
    broadcast_live_command(organization_id: OrganizationId, exclude_project_id: Option<ProjectId>, command: Json) -> ();
}
