//! The libraries of a project: `quantconnect:api/libraries`.

use crate::contract::quantconnect::api::libraries::{Error, Host, ProjectId, add_to_linker};

capability! {
    add_library(project_id: ProjectId, library_id: ProjectId) -> ();
    remove_library(project_id: ProjectId, library_id: ProjectId) -> ();
}
