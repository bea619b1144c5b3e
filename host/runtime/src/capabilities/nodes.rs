//! Compute nodes: `quantconnect:api/nodes`.

use crate::contract::quantconnect::api::nodes::{
    Error, Host, NodeId, ProjectId, ProjectNodes, add_to_linker,
};

capability! {
    read_project_nodes(project_id: ProjectId) -> ProjectNodes;
    update_project_nodes(project_id: ProjectId, nodes: Option<Vec<NodeId>>) -> ProjectNodes;
}
