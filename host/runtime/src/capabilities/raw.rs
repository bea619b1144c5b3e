//! Any tool by its name: `quantconnect:api/raw`. A tool that the catalog knows is that operation
//! for the gate.

use serde_json::{Map, Value};

use crate::calls::refused;
use crate::contract::quantconnect::api::raw::{Error, Host, Json, add_to_linker};
use crate::json;

capability! {
    {
        async fn call_tool(&mut self, tool: String, arguments: Json) -> Result<Json, Error> {
            let arguments: Map<String, Value> = json::parse(&arguments, json::ARGUMENTS).map_err(|error| {
                Error::InvalidArgument(format!("{tool}: the arguments are not a JSON object: {error}"))
            })?;
            let gate = self.gate()?;
            let _wait = self.wait();
            let body = gate
                .call_raw(self.caller(), &tool, arguments)
                .await
                .map_err(refused)?;
            Ok(body.to_string())
        }
    }
}
