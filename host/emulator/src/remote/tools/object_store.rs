//! The object store: write a text, and read a PDF as markdown.

use bytes::Bytes;
use serde_json::{Value, json};

use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply, refuse};
use crate::services::arguments::Arguments;
use crate::services::object_store;
use crate::store::State;

/// How a PDF begins.
const PDF: &[u8] = b"%PDF";

/// Writes a text under a key, over what was there.
pub(super) fn set(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    store(
        workspace,
        state,
        arguments.text("key")?,
        arguments.text("content")?,
    )
}

fn store(workspace: &Workspace, state: &mut State, key: &str, text: &str) -> Answer {
    let organization = &workspace.cloud.settings.organization_id;
    let mut asked = rest::arguments(json!({"organizationId": organization, "key": key}));
    asked.object_data = Some(Bytes::copy_from_slice(text.as_bytes()));
    object_store::set(&workspace.cloud, state, &asked)
}

/// The emulator reads no PDF: the markdown is one line that says so. It is answered, or written where `outputPath`
/// says.
pub(super) fn pdf(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let key = arguments.text("key")?;
    let first = arguments.optional("firstPage", Arguments::integer)?;
    let last = arguments.optional("lastPage", Arguments::integer)?;
    let first = first.unwrap_or(1);
    if first < 1 || last.is_some_and(|last| last < first) {
        refuse!("Invalid range: firstPage must be at least 1 and not above lastPage");
    }
    let object = state.objects.objects.get(key.trim_start_matches('/'));
    let object = object.ok_or_else(|| Refusal::not_found("Object", key))?;
    if !object.bytes.starts_with(PDF) {
        refuse!("The object is not a PDF");
    }
    let markdown = format!("# {key}\n\nThe emulator does not read PDF files.\n");
    let warnings = ["The text of the pages is missing: the emulator does not read PDF files"];
    match arguments.optional("outputPath", Arguments::text)? {
        Some(path) => {
            store(workspace, state, path, &markdown)?;
            Reply::success(json!({"outputPath": path, "warnings": warnings}))
        }
        None => Reply::success(json!({
            "markdown": Value::String(markdown),
            "warnings": warnings,
        })),
    }
}
