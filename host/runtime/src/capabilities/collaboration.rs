//! Who works on a project: `quantconnect:api/collaboration`.

use crate::contract::quantconnect::api::collaboration::{
    Collaborator, Error, Host, ProjectId, Team, add_to_linker,
};

capability! {
    create_project_collaborator(project_id: ProjectId, collaborator_user_id: String, collaboration_live_control: bool, collaboration_write: bool) -> Vec<Collaborator>;
    read_project_collaborators(project_id: ProjectId) -> Team;
    update_project_collaborator(project_id: ProjectId, collaborator_user_id: String, live_control: bool, write: bool) -> Vec<Collaborator>;
    delete_project_collaborator(project_id: ProjectId, collaborator_id: String) -> Vec<Collaborator>;
    lock_project_with_collaborators(project_id: ProjectId, code_source_id: String) -> ();
}
