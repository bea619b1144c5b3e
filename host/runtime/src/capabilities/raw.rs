//! Any tool by its name: `quantconnect:api/raw`. A tool that the catalog knows is that operation
//! for the gate.

use std::sync::Arc;

use qchost_catalog::{aside, length};
use qchost_gate::{PluginCalls, Principal};

use crate::contract::quantconnect::api::raw::{Error, Host, Json, add_to_linker};
use crate::{json, text};

/// Maximum bytes of a tool's name that an error repeats.
const MAX_TOOL: usize = 128;

capability! {
    {
        async fn call_tool(&mut self, tool: String, arguments: Json) -> Result<Json, Error> {
            let parsed = aside(arguments.len(), || json::arguments(&arguments));
            let arguments = parsed.map_err(|error| {
                let tool = text::line(&tool, MAX_TOOL);
                Error::InvalidArgument(format!("{tool}: the arguments are not a JSON object: {error}"))
            })?;
            let _wait = self.wait();
            let call = move |gate: Arc<dyn PluginCalls>, principal: Principal| async move {
                gate.call_raw(&principal, &tool, arguments).await
            };
            let body = self.hand_over(call).await?;
            Ok(aside(length(&body), || body.to_string()))
        }
    }
}
