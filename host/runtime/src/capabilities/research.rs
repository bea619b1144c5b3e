//! Research notebooks: `quantconnect:api/research`.

use crate::contract::quantconnect::api::research::{
    Cell, Error, Host, Json, ProjectId, add_to_linker,
};

capability! {
    jupyter_create_cell(project_id: ProjectId, source: String, index: Option<u32>) -> ();
    jupyter_read_cell(project_id: ProjectId, index: u32) -> Cell;
    jupyter_update_cell(project_id: ProjectId, index: u32, source: String) -> ();
    jupyter_delete_cell(project_id: ProjectId, index: u32) -> ();
    jupyter_execute_cell(project_id: ProjectId, index: u32) -> Json;
    jupyter_create_notebook(project_id: ProjectId, notebook: String) -> ();
    jupyter_read_notebook(project_id: ProjectId) -> String;
    jupyter_execute_notebook(project_id: ProjectId) -> Json;
    jupyter_get_image(url: String) -> String;
}
