//! The files of a project: `quantconnect:api/files`.

use crate::contract::quantconnect::api::files::{
    ContentSearch, Error, Host, ProjectFile, ProjectId, add_to_linker,
};

capability! {
    create_file(project_id: ProjectId, name: String, content: Option<String>, code_source_id: Option<String>) -> ();
    read_file(project_id: ProjectId, name: Option<String>, code_source_id: Option<String>) -> Vec<ProjectFile>;
    update_file_name(project_id: ProjectId, name: String, new_name: String, code_source_id: Option<String>) -> ();
    update_file_contents(project_id: ProjectId, name: String, content: String, code_source_id: Option<String>) -> Vec<ProjectFile>;
    write_file(project_id: ProjectId, name: String, content: String, code_source_id: Option<String>) -> ();
    edit_file(project_id: ProjectId, name: String, old_string: String, new_string: String) -> ();
    search_file_content(project_id: ProjectId, query: String) -> ContentSearch;
    patch_file(project_id: ProjectId, patch: String, code_source_id: Option<String>) -> ();
    delete_file(project_id: ProjectId, name: String, code_source_id: Option<String>) -> ();
}
