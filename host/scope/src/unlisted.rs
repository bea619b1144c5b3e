//! Properties of operations that the selectors of the catalog do not express. The rest of this
//! crate uses only the selectors; operations are identified by name or endpoint here and nowhere
//! else.

use qchost_catalog::{Access, Operation, Selector};

/// The argument that holds a patch, which names files.
pub(crate) fn patch(operation: &Operation) -> Option<&'static str> {
    (operation.tool == "patch_file").then_some("patch")
}

/// The argument that holds the id of a download of objects.
pub(crate) fn download_job(operation: &Operation) -> Option<&'static str> {
    let by_key = |selector: &Selector| matches!(selector, Selector::ObjectKey(_));
    (downloads(operation) && !operation.selectors.iter().any(by_key)).then_some("jobId")
}

/// Whether the operation starts a download or returns its address.
pub(crate) fn downloads(operation: &Operation) -> bool {
    operation.endpoint == "/object/get"
}

/// The argument that gives another user the right to trade with a project.
pub(crate) fn live_control(operation: &Operation) -> Option<&'static str> {
    match operation.tool {
        "create_project_collaborator" => Some("collaborationLiveControl"),
        "update_project_collaborator" => Some("liveControl"),
        _ => None,
    }
}

/// Whether the answer lists projects when no project is given.
pub(crate) fn lists_projects(operation: &Operation) -> bool {
    operation.endpoint == "/projects/read"
}

/// Whether it may rename or delete a project.
pub(crate) fn changes_project(operation: &Operation) -> bool {
    operation.interface() == "projects" && operation.access != Access::Read
}

/// Whether the server applies a key to everything below it too, if it is a folder.
pub(crate) fn takes_folders(operation: &Operation) -> bool {
    operation.access == Access::Destroy || downloads(operation)
}
