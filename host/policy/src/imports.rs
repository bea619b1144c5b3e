//! Whether a component may import what it imports: each interface has to be mentioned by a grant.

use std::collections::{BTreeMap, BTreeSet};

use qchost_catalog::OPERATIONS;
use serde_json::json;

use crate::authority::explain::{any_of, every, everything};
use crate::engine::{Action, actions, attributes};
use crate::grantable::{RAW, WORKFLOW, grantable};
use crate::manifest::Manifest;

/// An interface of `quantconnect:api` (`backtests`, `raw`) or a service of the host (`workflow`) that a component imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedInterface {
    /// Its name in grants.
    pub name: String,
    /// The entries of `allow` that the functions which the component imports of it need: `backtests/read-backtest`.
    pub needs: Vec<String>,
}

/// A component imports more than its manifest mentions. It is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{plugin}` imports {}, which no grant mentions; {}to allow it, add to the manifest:\n{egress}{}",
    interfaces.join(", "),
    if *whole { format!("{WHOLE_CONTRACT}; ") } else { String::new() },
    grants(needs))]
pub struct ImportsDenied {
    /// The plugin.
    pub plugin: String,
    /// The interfaces.
    pub interfaces: Vec<String>,
    /// The entries of `allow` that it needs for them, and that no grant has.
    pub needs: Vec<String>,
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
    /// Checks that a component may import these interfaces.
    ///
    /// # Errors
    /// When no grant mentions one of them. The lines to add allow for requests to other hosts as well if `http` is set.
    pub fn check_imports(
        &self,
        imported: &[ImportedInterface],
        http: bool,
    ) -> Result<(), ImportsDenied> {
        let patterns = || self.grants.iter().flat_map(|grant| &grant.allow);
        let missing: Vec<&str> = imported
            .iter()
            .map(|it| it.name.as_str())
            .filter(|name| !patterns().any(|pattern| pattern.mentions(name)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let is_covered = |entry: &str| {
            grantable().any(|(name, access)| {
                name == entry && patterns().any(|pattern| pattern.covers(name, access))
            })
        };
        let mut needs = BTreeSet::new();
        for import in imported {
            // A service calls operations of other interfaces for the component.
            let is_wanted = |entry: &&String| {
                missing.contains(&import.name.as_str()) || missing.contains(&interface_of(entry))
            };
            let wanted = import.needs.iter().filter(is_wanted);
            needs.extend(wanted.filter(|entry| !is_covered(entry)).cloned());
        }
        let names: Vec<String> = imported.iter().map(|it| it.name.clone()).collect();
        let entries: Vec<&str> = needs.iter().map(String::as_str).collect();
        Err(ImportsDenied {
            plugin: self.plugin.clone(),
            egress: self.egress_lines(&entries, http),
            interfaces: missing.into_iter().map(str::to_owned).collect(),
            needs: needs.into_iter().collect(),
            whole: is_whole_contract(&names),
        })
    }
}

/// The interface of an entry of `allow`.
fn interface_of(entry: &str) -> &str {
    entry.split('/').next().unwrap_or(entry)
}

/// Manifest lines that allow these entries of `allow` lists: a grant for each interface, on everything, with hints to narrow
/// it. What trades or destroys is marked. They are for a manifest without tables, which grants requests to other hosts as well if
/// `http` is set.
#[must_use]
pub fn granting(entries: &[String], http: bool) -> String {
    let bare = Manifest::without_grants(String::new(), String::new());
    let names: Vec<&str> = entries.iter().map(String::as_str).collect();
    let egress = bare.egress_lines(&names, http);
    format!("{egress}{}", grants(entries))
}

/// As [`granting`], without the lines above the first table.
fn grants(entries: &[String]) -> String {
    let mut interfaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in entries {
        interfaces
            .entry(interface_of(entry))
            .or_default()
            .push(entry);
    }
    let grants = interfaces.into_iter().map(|(interface, entries)| {
        let mut text = format!("[[grant]]\nname = {}\nallow = [\n", json!(interface));
        let mut own: Vec<&Action> = Vec::new();
        for entry in entries {
            let action = actions().iter().find(|action| action.name == entry);
            let mark = match action.and_then(|action| action.guarded_as) {
                Some(why) => format!("  # {why}: leave it out unless it is meant"),
                None if interface == RAW => {
                    "  # every tool that the catalog does not know; narrow it to those that are meant".to_owned()
                }
                None => String::new(),
            };
            text.push_str(&format!("    {},{mark}\n", json!(entry)));
            own.extend(action);
        }
        text.push_str("]\n");
        text.push_str(&scopes(&own));
        text
    });
    grants.collect::<Vec<_>>().join("\n")
}

/// The lines of a grant that scope these actions: on everything, with hints to narrow it.
fn scopes(actions: &[&Action]) -> String {
    let scoped = || actions.iter().filter(|action| action.name != RAW);
    let kinds = scoped().flat_map(|action| action.kinds.iter().copied().chain(action.lists));
    let mut lines = every(kinds);
    for what in scoped().filter_map(|action| action.any_of) {
        let (key, _) = any_of(what);
        if !lines.iter().any(|(known, _)| *known == key) {
            lines.push((key, everything(key)));
        }
    }
    for attribute in attributes() {
        if let Some(key) = attribute.bound.scope()
            && !lines.iter().any(|(known, _)| *known == key)
            && scoped().any(|action| action.attributes.has(attribute) && !action.is_optional(key))
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
