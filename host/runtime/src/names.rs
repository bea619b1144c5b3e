//! The names by which actions are invoked: `plugin.action`, and the aliases of manifests.
//!
//! Invariant: among the plugins that serve, a name stands for one action. Of two plugins that want a name, the one that
//! serves has it, and the other does not load.

use std::collections::BTreeMap;
use std::sync::Arc;

use qchost_policy::{Alias, Manifest};

use crate::component::Code;
use crate::load_error::LoadError;
use crate::plugin::Plugin;

/// Checks that the component has the actions that the aliases of its manifest are for, and that no alias is the name of one of
/// its actions.
pub(crate) fn check_actions(manifest: &Manifest, code: &Code) -> Result<(), LoadError> {
    let actions = &code.schemas.actions;
    for Alias { name, action } in &manifest.aliases {
        if !actions.contains_key(action) {
            let described = code.description.actions.iter();
            return Err(LoadError::AliasWithoutAction {
                plugin: manifest.plugin.clone(),
                alias: name.clone(),
                action: action.clone(),
                actions: described.map(|action| action.name.clone()).collect(),
            });
        }
        if is_action(name, &manifest.plugin, code) {
            let by = format!("an action of the plugin `{}`", manifest.plugin);
            return Err(taken(manifest, name, by));
        }
    }
    Ok(())
}

/// Checks that no other plugin that serves has a name that this one would have.
pub(crate) fn check_free(
    manifest: &Manifest,
    code: &Code,
    serving: &BTreeMap<String, Arc<Plugin>>,
) -> Result<(), LoadError> {
    // It takes the place of the plugin of its own name.
    let others = serving
        .values()
        .filter(|other| other.name() != manifest.plugin);
    for other in others {
        for Alias { name, .. } in &manifest.aliases {
            if is_action(name, other.name(), &other.code) {
                let by = format!("an action of the plugin `{}`", other.name());
                return Err(taken(manifest, name, by));
            }
            if other.manifest().aliases.iter().any(|it| it.name == *name) {
                let by = format!("an alias of the plugin `{}`", other.name());
                return Err(taken(manifest, name, by));
            }
        }
        for Alias { name, .. } in &other.manifest().aliases {
            if is_action(name, &manifest.plugin, code) {
                let by = format!("an alias of the plugin `{}`", other.name());
                return Err(taken(manifest, name, by));
            }
        }
    }
    Ok(())
}

/// Whether a name is that of an action of a plugin.
fn is_action(name: &str, plugin: &str, code: &Code) -> bool {
    name.split_once('.')
        .is_some_and(|(first, action)| first == plugin && code.schemas.actions.contains_key(action))
}

fn taken(manifest: &Manifest, name: &str, by: String) -> LoadError {
    LoadError::NameTaken {
        plugin: manifest.plugin.clone(),
        name: name.to_owned(),
        by,
    }
}
