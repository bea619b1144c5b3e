//! The projects that a plugin created. The ledger keeps them durably; this holds what the gate read
//! from there, and what was created since.

use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};

type ByPlugin = HashMap<String, HashSet<u32>>;

/// Project ids by account and plugin.
#[derive(Debug, Default)]
pub(crate) struct Created(RwLock<HashMap<String, ByPlugin>>);

impl Created {
    pub(crate) fn remember(&self, account: &str, plugin: &str, project: u32) {
        let mut accounts = self.0.write();
        let plugins = accounts.entry(account.to_owned()).or_default();
        let projects = plugins.entry(plugin.to_owned()).or_default();
        projects.insert(project);
    }

    pub(crate) fn by(&self, account: &str, plugin: &str, project: u32) -> bool {
        let accounts = self.0.read();
        accounts
            .get(account)
            .and_then(|plugins| plugins.get(plugin))
            .is_some_and(|projects| projects.contains(&project))
    }
}
