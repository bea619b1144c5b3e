//! Compute nodes: `quantconnect:api/nodes`.

use crate::contract::quantconnect::api::nodes::{
    Error, Host, NodeId, NodePools, OrganizationId, ProjectId, ProjectNodes, add_to_linker,
};

capability! {
    read_project_nodes(project_id: ProjectId) -> ProjectNodes;
    read_organization_nodes(organization_id: OrganizationId) -> NodePools;
    update_project_nodes(project_id: ProjectId, nodes: Option<Vec<NodeId>>) -> ProjectNodes;
}
