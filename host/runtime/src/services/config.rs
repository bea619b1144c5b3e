//! `config`: the `[config]` table of the manifest, as it stood when the invocation started.

use qchost_policy::Manifest;

use crate::calls::CallContext;
use crate::contract::qchost::agent::config::Host;

/// The settings of one invocation; none while a component describes itself.
#[derive(Debug, Clone)]
pub(crate) struct Config(pub(crate) CallContext);

impl Config {
    fn manifest(&self) -> Option<&Manifest> {
        self.0.version_context().manifest.as_deref()
    }
}

impl Host for Config {
    fn get(&mut self, name: String) -> Option<String> {
        let manifest = self.manifest()?;
        manifest.config.get(&name).map(ToString::to_string)
    }

    fn all(&mut self) -> Vec<(String, String)> {
        self.manifest()
            .iter()
            .flat_map(|manifest| &manifest.config)
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect()
    }
}
