//! Compile jobs: `quantconnect:api/compile`.

use crate::contract::quantconnect::api::compile::{
    CompileId, Error, Host, Job, Outcome, ProjectId, add_to_linker,
};

capability! {
    create_compile(project_id: ProjectId) -> Job;
    read_compile(project_id: ProjectId, compile_id: CompileId) -> Outcome;
}
