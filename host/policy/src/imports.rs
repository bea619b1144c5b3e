//! Whether a component may import what it imports: each interface has to be mentioned by a grant.

use std::collections::BTreeMap;

use qchost_catalog::OPERATIONS;
use qchost_catalog::host_calls::{CREATE_BACKTEST, CREATE_COMPILE, READ_BACKTEST, READ_COMPILE};
use serde_json::json;

use crate::authority::explain::{every, everything};
use crate::engine::{Action, actions, attributes};
use crate::grantable::{HTTP, RAW, WORKFLOW};
use crate::manifest::Manifest;

/// A component imports more than its manifest mentions. It is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{plugin}` imports {}, which no grant mentions; {}to allow it, add to the manifest:\n{egress}{}",
    interfaces.join(", "),
    if *whole { format!("{WHOLE_CONTRACT}; ") } else { String::new() },
    interfaces.iter().map(|interface| remedy(interface)).collect::<Vec<_>>().join("\n"))]
pub struct ImportsDenied {
    /// The plugin.
    pub plugin: String,
    /// The interfaces.
    pub interfaces: Vec<String>,
    /// Whether the component imports every interface of the contract.
    pub whole: bool,
    /// The lines that the manifest needs besides, since licensed data could leave by what is granted then; or empty.
    pub egress: String,
}

/// Advice for a component that imports every interface of the contract.
pub const WHOLE_CONTRACT: &str = "it imports the whole contract, as a component does that is built against the world `agent`: \
    build it against a world of its own, `include core` and the interfaces that it uses, and it needs no more grants than those";

/// Whether these are all interfaces that a manifest can grant, as components import them that are built against the
/// world `agent` by a toolchain that imports whatever its world names.
#[must_use]
pub fn is_whole_contract(interfaces: &[String]) -> bool {
    let has = |name: &str| interfaces.iter().any(|interface| interface == name);
    let typed = OPERATIONS.iter().filter(|operation| operation.is_typed());
    let mut of_catalog = typed.map(|operation| operation.interface());
    has(RAW) && has(WORKFLOW) && of_catalog.all(has)
}

impl Manifest {
    /// Checks that a component may import these interfaces of `quantconnect:api` (`backtests`, `raw`) and host
    /// services (`workflow`).
    ///
    /// # Errors
    /// When no grant mentions one of them. The lines to add allow for requests to other hosts as well if `http` is set.
    pub fn check_imports(&self, interfaces: &[String], http: bool) -> Result<(), ImportsDenied> {
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
            let added = actions().iter().filter(|action| {
                let interface = action.name.split('/').next();
                action.globbed() && missing.iter().any(|own| Some(own.as_str()) == interface)
            });
            let added: Vec<&str> = added.map(|action| action.name).collect();
            Err(ImportsDenied {
                plugin: self.plugin.clone(),
                egress: self.egress_lines(&added, http),
                interfaces: missing,
                whole: is_whole_contract(interfaces),
            })
        }
    }
}

/// What `workflow` calls for a plugin; each of these calls is decided on its own.
fn workflow_calls() -> [&'static str; 4] {
    [CREATE_COMPILE, READ_COMPILE, CREATE_BACKTEST, READ_BACKTEST].map(|operation| operation.name)
}

/// Manifest lines that allow what a component with an import of this interface may call, as far as that can be known: on
/// everything, with hints to narrow it, and without trade and destroy, which the operator has to name.
fn remedy(interface: &str) -> String {
    let calls = workflow_calls();
    let of_interface = |name: &str| {
        name.split('/').next() == Some(interface)
            || (interface == WORKFLOW && calls.contains(&name))
    };
    let own: Vec<_> = actions()
        .iter()
        .filter(|action| of_interface(action.name) && action.name != HTTP)
        .collect();
    let is_guarded = |action: &&&Action| !action.globbed();
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
                "# What trades, deletes or answers data of persons is not in it. Add to `allow` what is to be allowed of:\n",
            );
            for name in &guarded {
                text.push_str(&format!("#   {}\n", json!(name)));
            }
            &[][..]
        }
        Some(_) if interface == WORKFLOW => &calls[..],
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
    text.push_str("[[grant]]\n");
    text.push_str(&format!("name = {}\n", json!(interface)));
    text.push_str(&format!("allow = [{}]\n", entries.join(", ")));
    text.push_str(&scopes(&own));
    text
}

/// Manifest lines that allow these entries of `allow` lists: a grant for each interface, on everything, with hints to narrow
/// it. What trades or destroys is marked. They are for a manifest without tables, which grants requests to other hosts as well if
/// `http` is set.
#[must_use]
pub fn granting(entries: &[String], http: bool) -> String {
    let bare = Manifest::without_grants(String::new(), String::new());
    let names: Vec<&str> = entries.iter().map(String::as_str).collect();
    let egress = bare.egress_lines(&names, http);
    let mut interfaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in entries {
        let interface = entry.split('/').next().unwrap_or(entry);
        interfaces.entry(interface).or_default().push(entry);
    }
    let grants = interfaces.into_iter().map(|(interface, entries)| {
        let mut text = format!("[[grant]]\nname = {}\nallow = [\n", json!(interface));
        let mut own: Vec<&Action> = Vec::new();
        for entry in entries {
            let action = actions().iter().find(|action| action.name == entry);
            let mark = match action {
                Some(action) if !action.globbed() => {
                    format!("  # {}: leave it out unless it is meant", action.guarded_as())
                }
                _ if interface == RAW => {
                    "  # every tool that the catalog does not know; narrow it to those that are meant".to_owned()
                }
                _ => String::new(),
            };
            text.push_str(&format!("    {},{mark}\n", json!(entry)));
            own.extend(action);
        }
        text.push_str("]\n");
        text.push_str(&scopes(&own));
        text
    });
    format!("{egress}{}", grants.collect::<Vec<_>>().join("\n"))
}

/// The lines of a grant that scope these actions: on everything, with hints to narrow it.
fn scopes(actions: &[&Action]) -> String {
    let scoped = || actions.iter().filter(|action| action.name != RAW);
    let kinds = scoped().flat_map(|action| action.kinds.iter().copied().chain(action.lists));
    let mut lines = every(kinds);
    for attribute in attributes() {
        if let Some(key) = attribute.bound.scope()
            && !lines.iter().any(|(known, _)| *known == key)
            && scoped().any(|action| action.attributes.has(attribute))
        {
            lines.push((key, everything(key)));
        }
    }
    let mut text = String::new();
    for (key, value) in lines {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}
