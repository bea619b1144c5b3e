//! Whether a component may import what it imports: each interface has to be mentioned by a grant.

use serde_json::json;

use crate::authority::explain::{every, everything};
use crate::engine::{Action, actions, attributes};
use crate::grantable::{HTTP, RAW, WORKFLOW};
use crate::manifest::Manifest;

/// A component imports more than its manifest mentions. It is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{plugin}` imports {}, which no grant mentions; to allow it, add to the manifest:\n{}",
    interfaces.join(", "),
    interfaces.iter().map(|interface| remedy(interface)).collect::<Vec<_>>().join("\n"))]
pub struct ImportsDenied {
    /// The plugin.
    pub plugin: String,
    /// The interfaces.
    pub interfaces: Vec<String>,
}

impl Manifest {
    /// Checks that a component may import these interfaces of `quantconnect:api` (`backtests`, `raw`) and host
    /// services (`workflow`).
    ///
    /// # Errors
    /// When no grant mentions one of them.
    pub fn check_imports(&self, interfaces: &[String]) -> Result<(), ImportsDenied> {
        let mentioned = |interface: &&String| {
            let mut patterns = self.grants.iter().flat_map(|grant| &grant.allow);
            patterns.any(|pattern| pattern.mentions(interface))
        };
        let missing: Vec<_> = interfaces
            .iter()
            .filter(|name| !mentioned(name))
            .cloned()
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ImportsDenied {
                plugin: self.plugin.clone(),
                interfaces: missing,
            })
        }
    }
}

/// Manifest lines that allow what a component with an import of this interface may call, as far as that can be known: on
/// everything, with hints to narrow it, and without trade and destroy, which the operator has to name.
fn remedy(interface: &str) -> String {
    let of_interface = |name: &str| name.split('/').next() == Some(interface);
    let own: Vec<_> = actions()
        .iter()
        .filter(|action| of_interface(action.name) && action.name != HTTP)
        .collect();
    let is_guarded = |action: &&&Action| !action.access.globbed();
    let guarded: Vec<_> = own
        .iter()
        .filter(is_guarded)
        .map(|action| action.name)
        .collect();
    let entry = match interface {
        WORKFLOW => Some(WORKFLOW.to_owned()),
        RAW => Some(format!("{RAW}/*")),
        _ if guarded.len() < own.len() => Some(format!("{interface}/*")),
        _ => None,
    };
    let mut text = String::new();
    // A pattern cannot cover any of them: the component needs one of these.
    let named = match &entry {
        Some(_) if interface != RAW && !guarded.is_empty() => {
            text.push_str(
                "# What trades or deletes is not in it. Add to `allow` what is to be allowed of:\n",
            );
            for name in &guarded {
                text.push_str(&format!("#   {}\n", json!(name)));
            }
            &[][..]
        }
        Some(_) => &[],
        None => {
            text.push_str("# This trades or deletes: leave out what is not to be allowed, and the grant if that is all.\n");
            &guarded[..]
        }
    };
    let entries = entry
        .iter()
        .map(String::as_str)
        .chain(named.iter().copied());
    let entries: Vec<_> = entries.map(|entry| json!(entry).to_string()).collect();
    let mut lines = vec![
        ("name", json!(interface).to_string()),
        ("allow", format!("[{}]", entries.join(", "))),
    ];
    let scopes = own.iter().filter(|action| action.name != RAW);
    lines.extend(every(
        scopes
            .clone()
            .flat_map(|action| action.kinds.iter().copied()),
    ));
    for attribute in attributes() {
        if let Some(key) = attribute.bound.scope()
            && !lines.iter().any(|(known, _)| *known == key)
            && scopes
                .clone()
                .any(|action| action.attributes.has(attribute))
        {
            lines.push((key, everything(key)));
        }
    }
    text.push_str("[[grant]]\n");
    for (key, value) in lines {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}
