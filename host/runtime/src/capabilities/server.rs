//! The MCP server: `quantconnect:api/server`.

use crate::contract::quantconnect::api::server::{Error, Host, add_to_linker};

capability! {
    read_mcp_server_version() -> String;
    read_latest_mcp_server_version() -> String;
}
