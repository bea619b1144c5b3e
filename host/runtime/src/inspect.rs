//! What `plugin inspect` shows of a component, without a manifest and without trusting it.

use std::collections::{BTreeMap, BTreeSet};

use qchost_policy::{WHOLE_CONTRACT, granting, is_whole_contract};
use schemars::JsonSchema;
use serde::Serialize;

use crate::component::Parsed;
use crate::declared::Declared;
use crate::description::Description;
use crate::imports::{FOLDER_GRANT, HTTP_GRANT, Import, Kind};
use crate::load_error::LoadError;

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Inspection {
    /// Its hash, as a manifest pins it: `sha256:…`.
    pub digest: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its size once it is compiled, in bytes; 0 if it is refused before that.
    pub compiled: u64,
    /// What it imports.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its description; `None` if it would not load.
    pub description: Option<Description>,
    /// Why it would not load, whatever its manifest grants.
    pub problem: Option<String>,
    /// What a manifest would have to grant for every call that it can make: `backtests/read-backtest`, `workflow`.
    /// Which tools it calls by `raw` is not visible.
    pub needs: Vec<String>,
    /// Other names of its actions, with the action of each, if it is looked at as the plugin of a manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

impl Inspection {
    /// Of a component that was compiled.
    pub(crate) fn new(
        digest: String,
        size: u64,
        parsed: Parsed,
        described: Result<Description, LoadError>,
    ) -> Self {
        let image = parsed.component.image_range();
        let compiled = image.end.addr().saturating_sub(image.start.addr());
        let declared = Declared {
            imports: parsed.imports,
            exports: parsed.exports,
        };
        Self {
            compiled: u64::try_from(compiled).unwrap_or(u64::MAX),
            ..Self::declared(digest, size, declared, described)
        }
    }

    /// Of a component that was not compiled.
    pub(crate) fn declared(
        digest: String,
        size: u64,
        declared: Declared,
        described: Result<Description, LoadError>,
    ) -> Self {
        let (description, problem) = match described {
            Ok(description) => (Some(description), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Declared { imports, exports } = declared;
        Self {
            digest,
            size,
            compiled: 0,
            needs: imports
                .iter()
                .flat_map(Import::needs)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            imports,
            exports,
            description,
            problem,
            aliases: BTreeMap::new(),
        }
    }

    /// Manifest lines that grant what it needs: a grant for each interface and, if it sends requests or uses folders, an
    /// `[[http]]` or a `[[folder]]`, each to be narrowed by the operator. Empty if it needs none.
    #[must_use]
    pub fn grants(&self) -> String {
        let mut blocks = Vec::new();
        let http = self.imports.iter().any(|import| import.kind == Kind::Http);
        if !self.needs.is_empty() {
            blocks.push(granting(&self.needs, http));
        }
        if http {
            blocks.push(format!(
                "# It sends requests: write the address that it needs.\n{HTTP_GRANT}"
            ));
        }
        let mut imports = self.imports.iter();
        if imports.any(|import| import.kind == Kind::Folders) {
            blocks.push(format!(
                "# It uses folders: write the path and the mode that it needs.\n{FOLDER_GRANT}"
            ));
        }
        blocks.join("\n")
    }

    /// Advice about how it was built, if it imports more than a component needs.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let interfaces = self.imports.iter().filter_map(Import::granted_as);
        let interfaces: Vec<String> = interfaces.map(str::to_owned).collect();
        is_whole_contract(&interfaces).then_some(WHOLE_CONTRACT)
    }
}
