//! A component's imports: their kinds, and what grants them.
//!
//! Invariant: every function that a component can call belongs to a kind that was checked: an
//! unknown interface is [`Kind::Unknown`], and a component with one does not load.

use qchost_catalog::host_calls::{
    CREATE_BACKTEST, CREATE_COMPILE, READ_BACKTEST, READ_COMPILE, TRIAL_READS,
};
use qchost_policy::ImportedInterface;
use schemars::JsonSchema;
use serde::Serialize;
use wasmtime::component::types::ComponentItem;

/// The interface a component must export.
pub(crate) const GUEST: &str = "qchost:agent/guest@0.1.0";
/// Package of QuantConnect's interfaces.
const QUANTCONNECT: &str = "quantconnect:api/";
/// Their version.
const VERSION: &str = "@0.1.0";
/// The host's services, each with whether it needs a grant.
const SERVICES: [(&str, bool); 9] = [
    ("answers", false),
    ("approvals", false),
    ("log", false),
    ("state", false),
    ("config", false),
    ("clock", false),
    ("progress", false),
    ("evidence", true),
    ("workflow", true),
];
/// The provided parts of WASI that grant no access.
const WASI: [&str; 6] = [
    "wasi:io/",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/",
    "wasi:sockets/",
];
/// The parts of WASI that need an `[[http]]` grant in the manifest.
const HTTP: [&str; 2] = ["wasi:http/types@0.2.", "wasi:http/outgoing-handler@0.2."];
/// The manifest lines that grant them.
pub(crate) const HTTP_GRANT: &str = "[[http]]\nname    = \"example\"\nallow   = \"https://example.com/path/\"\nmethods = [\"GET\"]\n";

/// The manifest lines that grant `folders`.
pub(crate) const FOLDER_GRANT: &str =
    "[[folder]]\nname = \"example\"\npath = \"/srv/example\"\nmode = \"read\"\n";
/// The service that needs a `[[folder]]` in the manifest.
const FOLDERS: &str = "folders";

/// The kind of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Types only: there is nothing to call.
    Types,
    /// A service of the host that every plugin gets.
    Service,
    /// A service of the host that must be granted.
    GrantedService,
    /// An interface of QuantConnect, which must be granted.
    Quantconnect,
    /// A part of WASI that grants no access.
    Wasi,
    /// Outgoing HTTP, which must be granted.
    Http,
    /// Folders of the host's machine, which must be granted.
    Folders,
    /// Not provided by this host.
    Unknown,
}

/// An interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Import {
    /// Its full name: `quantconnect:api/backtests@0.1.0`.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The functions that the component uses.
    pub functions: Vec<String>,
}

impl Import {
    pub(crate) fn new(name: &str, item: &ComponentItem, engine: &wasmtime::Engine) -> Self {
        let (functions, callable) = match item {
            ComponentItem::ComponentInstance(instance) => {
                let mut functions = Vec::new();
                let mut callable = false;
                for (name, item) in instance.exports(engine) {
                    match item.ty {
                        ComponentItem::Type(_) => {}
                        ComponentItem::ComponentFunc(_) => {
                            functions.push(name.to_owned());
                            callable = true;
                        }
                        _ => callable = true,
                    }
                }
                (functions, callable)
            }
            ComponentItem::Type(_) => (Vec::new(), false),
            _ => (vec![name.to_owned()], true),
        };
        Self::declared(name, functions, callable)
    }

    /// An import with these functions; `callable` if there is anything to call.
    pub(crate) fn declared(name: &str, functions: Vec<String>, callable: bool) -> Self {
        Self {
            name: name.to_owned(),
            kind: if callable { kind(name) } else { Kind::Types },
            functions,
        }
    }

    /// Its name in grants: `backtests`, `workflow`; `None` if it needs no grant.
    #[must_use]
    pub fn granted_as(&self) -> Option<&str> {
        let name = match self.kind {
            Kind::Quantconnect => self.name.strip_prefix(QUANTCONNECT)?,
            Kind::GrantedService => self.name.strip_prefix("qchost:agent/")?,
            Kind::Types
            | Kind::Service
            | Kind::Wasi
            | Kind::Http
            | Kind::Folders
            | Kind::Unknown => return None,
        };
        name.strip_suffix(VERSION)
    }

    /// It as a manifest has to mention it; `None` if it needs no grant.
    pub(crate) fn to_grant(&self) -> Option<ImportedInterface> {
        Some(ImportedInterface {
            name: self.granted_as()?.to_owned(),
            needs: self.needs(),
        })
    }

    /// The entries of `allow` that it needs; what a service calls for the component needs grants too.
    pub(crate) fn needs(&self) -> Vec<String> {
        match (self.granted_as(), self.kind) {
            (Some("raw"), _) => vec!["raw/*".to_owned()],
            (Some(interface), Kind::Quantconnect) => self
                .functions
                .iter()
                .map(|function| format!("{interface}/{function}"))
                .collect(),
            (Some(service), _) => self
                .functions
                .iter()
                .flat_map(|function| match function.as_str() {
                    "compile-and-wait" => &[CREATE_COMPILE, READ_COMPILE][..],
                    "count-trials" => &TRIAL_READS[..],
                    "backtest-and-wait" | "run-backtests" => &[CREATE_BACKTEST, READ_BACKTEST][..],
                    _ => &[],
                })
                .map(|operation| operation.name.to_owned())
                .chain([service.to_owned()])
                .collect(),
            (None, _) => Vec::new(),
        }
    }
}

/// The kind of an interface, by its name.
fn kind(name: &str) -> Kind {
    let bare = name.strip_suffix(VERSION);
    if let Some(interface) = bare.and_then(|bare| bare.strip_prefix(QUANTCONNECT)) {
        let known = interface == "raw"
            || qchost_catalog::OPERATIONS
                .iter()
                .any(|operation| operation.is_typed() && operation.interface() == interface);
        return if known {
            Kind::Quantconnect
        } else {
            Kind::Unknown
        };
    }
    if let Some(service) = bare.and_then(|bare| bare.strip_prefix("qchost:agent/")) {
        if service == FOLDERS {
            return Kind::Folders;
        }
        return match SERVICES.iter().find(|(name, _)| *name == service) {
            Some((_, false)) => Kind::Service,
            Some((_, true)) => Kind::GrantedService,
            None => Kind::Unknown,
        };
    }
    if WASI.iter().any(|package| name.starts_with(package)) {
        return Kind::Wasi;
    }
    if HTTP.iter().any(|interface| name.starts_with(interface)) {
        return Kind::Http;
    }
    Kind::Unknown
}

/// A hint for an import that the host does not provide.
pub(crate) fn hint(import: &str) -> &'static str {
    if import.starts_with("wasi:http/") {
        "; of HTTP there are `types` and `outgoing-handler` of version 0.2, for requests that a plugin sends"
    } else if import.starts_with(QUANTCONNECT) || import.starts_with("qchost:agent/") {
        "; it may be of another version of the contract"
    } else {
        "; a plugin gets `qchost:agent`, `quantconnect:api` and a powerless WASI 0.2"
    }
}
