//! The JSON Schema of the manifest.

/// The JSON Schema of the manifest.
#[must_use]
pub fn manifest_schema() -> serde_json::Value {
    serde_json::json!({})
}
