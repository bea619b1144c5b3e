//! Projects: `quantconnect:api/projects`.

use crate::contract::quantconnect::api::projects::{
    Error, Host, Language, OrganizationId, Project, ProjectConfiguration, ProjectId, ProjectPage,
    SourceFile, add_to_linker,
};

capability! {
    create_project(name: String, language: Language, organization_id: Option<OrganizationId>) -> Project;
    read_project(project_id: Option<ProjectId>, start: Option<u32>, end: Option<u32>) -> Vec<Project>;
    list_projects() -> Vec<Project>;
    update_project(project_id: ProjectId, name: Option<String>, description: Option<String>) -> ();
    find_projects(organization_id: Option<OrganizationId>, query: Option<String>, start: Option<u32>, end: Option<u32>) -> ProjectPage;
    configure_project(request: ProjectConfiguration) -> ();
    replace_project_files(project_id: ProjectId, files: Vec<SourceFile>, code_source_id: Option<String>) -> ();
    delete_project(project_id: ProjectId) -> ();
}
