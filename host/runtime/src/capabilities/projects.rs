//! Projects: `quantconnect:api/projects`.

use crate::contract::quantconnect::api::projects::{
    Error, Host, Language, OrganizationId, Project, ProjectId, add_to_linker,
};

capability! {
    create_project(name: String, language: Language, organization_id: Option<OrganizationId>) -> Project;
    read_project(project_id: Option<ProjectId>, start: Option<u32>, end: Option<u32>) -> Vec<Project>;
    list_projects() -> Vec<Project>;
    update_project(project_id: ProjectId, name: Option<String>, description: Option<String>) -> ();
    delete_project(project_id: ProjectId) -> ();
}
