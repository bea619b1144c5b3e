//! The operator's file for one plugin: its component, its account, and what it may do.
//!
//! Invariant: a parsed manifest is enforced completely. An unknown key is an error, and so is one that this version
//! knows but does not enforce, so that an operator never relies on a limit that is not enforced.

mod alias;
mod config;
mod folder;
mod grant;
mod http;
pub(crate) mod reader;
mod schema;
mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qchost_catalog::{Access, by_name};
use qchost_text::one_line;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::de::DeTable;

pub use alias::Alias;
pub use folder::{FolderGrant, FolderMode};
pub(crate) use grant::BROKERAGES;
pub use grant::{Approval, Grant, GrantLimits, MAX_GRANTS, MAX_PATTERNS, ProjectScope};
pub(crate) use http::METHODS;
pub use http::{HttpGrant, Prefix};
pub use schema::manifest_schema;

use crate::glob::Glob;
use crate::grantable::{Pattern, grantable};
use crate::text_file::{Origin, read_owned_text};
use alias::MAX_ALIASES;
use folder::MAX_FOLDERS;
pub use reader::is_name;
use reader::{Fields, Item, Problem};

/// A manifest.
///
/// It can be serialized as JSON and restored; its path is not part of that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name: `[a-z0-9-]{1,64}`.
    pub plugin: String,
    /// The component's file; a relative path is resolved against the manifest's folder.
    pub component: PathBuf,
    /// The hash that the component must have: `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    /// The account whose connection the plugin uses.
    pub account: String,
    /// Whether it may take licensed data out of QuantConnect's cloud.
    #[serde(default)]
    pub egress: Egress,
    /// Its grants.
    pub grants: Vec<Grant>,
    /// Limits of an invocation.
    pub limits: Limits,
    /// The `[config]` table, as the plugin sees it.
    pub config: Map<String, Value>,
    /// Its permissions to send requests.
    pub http: Vec<HttpGrant>,
    /// Its permissions to use folders of the machine.
    #[serde(default)]
    pub folders: Vec<FolderGrant>,
    /// Other names of its actions.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// The file it was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// The text it was parsed from.
    #[serde(skip)]
    pub origin: Origin,
}

/// What a manifest says of licensed data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// It may not leave: nothing that may hold it is granted together with a way out.
    #[default]
    None,
    /// It may leave, by the operator's licences.
    Licensed,
}

/// Limits of one invocation, with defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all its memories and tables together.
    pub memory: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Wall-clock time, including waiting.
    pub wall: Duration,
    /// Maximum concurrent invocations of the plugin.
    pub concurrency: usize,
    /// Bytes of its output.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_secs(5),
            wall: Duration::from_secs(15 * 60),
            concurrency: 16,
            output: 4 << 20,
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: cannot read the manifest: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not TOML, a key is unknown, missing or not enforced, or a value is invalid.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with its table; `None` if the text is not TOML.
        key: Option<String>,
        /// The key, the problem, and what is allowed.
        message: String,
    },
}

/// Maximum characters of a message about a manifest: quoted text may be as long as the file.
const MAX_MESSAGE: usize = 2000;

/// The keys of the document.
const KEYS: &[&str] = &[
    "plugin",
    "component",
    "digest",
    "account",
    "egress",
    "grant",
    "limits",
    "config",
    "http",
    "folder",
    "alias",
];

/// Keys reserved for a later version, which will enforce them.
const RESERVED_KEYS: &[&str] = &["schedule", "on"];

/// The grants of [`Manifest::operator`], for the record: `*` stands for every operation, of every class.
const OPERATOR: &str = "\
egress = \"licensed\"
[[grant]]
name           = \"everything\"
allow          = [\"*\"]
projects       = [\"*\"]
organizations  = [\"*\"]
keys           = [\"*\"]
brokerages     = [\"*\"]
data-providers = [\"*\"]
commands       = [\"*\"]
collaborators  = [\"*\"]
recipients     = [\"*\"]
";

impl Manifest {
    /// Reads a manifest from its file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a manifest, or uses keys that are not enforced.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let (text, owner) = read_owned_text(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut manifest = Self::parse(&text, path)?;
        manifest.origin.owner = Some(owner);
        Ok(manifest)
    }

    /// Parses a manifest; `path` is used for messages.
    ///
    /// # Errors
    /// When it is not a manifest, or uses keys that are not enforced.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let mut manifest = parsed(text, path, |root| read(root, path))?;
        manifest.origin.text = text.into();
        Ok(manifest)
    }

    /// The `[[http]]` of a manifest's text, in its order; none if the text is not usable. The rest of the text is not
    /// read, so that it may be of another version.
    #[must_use]
    pub fn http_in(text: &str) -> Vec<HttpGrant> {
        let granted = parsed(text, Path::new(""), |root| granted(&root));
        granted.map_or_else(|_| Vec::new(), |(_, http)| http)
    }

    /// What an operator may do when calling a tool directly: every operation, of every class and on everything. No
    /// plugin can have its name.
    #[must_use]
    pub fn operator(account: &str) -> Self {
        let all = || vec![Glob::everything()];
        let grant = Grant {
            allow: grantable()
                .filter_map(|(name, _)| Pattern::parse(name).ok())
                .collect(),
            projects: vec![ProjectScope::Name(Glob::everything())],
            organizations: all(),
            keys: all(),
            brokerages: all(),
            data_providers: all(),
            commands: all(),
            collaborators: all(),
            recipients: all(),
            ..Grant::named("everything")
        };
        Self {
            egress: Egress::Licensed,
            grants: vec![grant],
            origin: Origin {
                text: OPERATOR.into(),
                owner: None,
            },
            ..Self::without_grants(format!("operator@{account}"), account.to_owned())
        }
    }

    /// A manifest that grants nothing, of no file.
    pub(crate) fn without_grants(plugin: String, account: String) -> Self {
        Self {
            plugin,
            component: PathBuf::new(),
            digest: None,
            account,
            egress: Egress::default(),
            grants: Vec::new(),
            limits: Limits::default(),
            config: Map::new(),
            http: Vec::new(),
            folders: Vec::new(),
            aliases: Vec::new(),
            path: PathBuf::new(),
            origin: Origin::default(),
        }
    }

    /// The same with each value that may be a secret (headers, `[config]`) replaced by the result of `seal` for its
    /// location and value: a form that can be stored and compared.
    #[must_use]
    pub fn sealed(&self, seal: impl Fn(&str, &Value) -> String) -> Self {
        let mut sealed = self.clone();
        for grant in &mut sealed.http {
            for (name, value) in &mut grant.headers {
                *value = seal(&format!("header {} {name}", grant.name), value).into();
            }
        }
        for (key, value) in &mut sealed.config {
            *value = seal(&format!("config {key}"), value).into();
        }
        sealed
    }

    /// Restores the values of a sealed manifest from another one, if they are the ones that were sealed: a header
    /// whose value has changed is dropped. Component, configuration, aliases and limits of an invocation come from the
    /// other manifest.
    #[must_use]
    pub fn unsealed(mut self, now: &Self, seal: impl Fn(&str, &Value) -> String) -> Self {
        for grant in &mut self.http {
            let same = now.http.iter().find(|other| other.name == grant.name);
            let values = same.map(|other| &other.headers);
            grant.headers.retain(|name, sealed| {
                let value = values.and_then(|values| values.get(name));
                let Some(value) = value.filter(|value| {
                    *sealed == seal(&format!("header {} {name}", grant.name), value)
                }) else {
                    return false;
                };
                *sealed = value.clone();
                true
            });
        }
        Self {
            component: now.component.clone(),
            digest: now.digest.clone(),
            limits: now.limits,
            config: now.config.clone(),
            aliases: now.aliases.clone(),
            path: now.path.clone(),
            ..self
        }
    }

    /// Whether a grant allows an operation, on anything.
    #[must_use]
    pub fn allows(&self, operation: &str, access: Access) -> bool {
        let mut grants = self.grants.iter();
        grants.any(|grant| grant.allows(operation, access))
    }

    /// An operation of class trade that it allows, if there is one.
    #[must_use]
    pub fn trades(&self) -> Option<&str> {
        let patterns = self.grants.iter().flat_map(|grant| &grant.allow);
        patterns
            .map(Pattern::as_str)
            .find(|name| match by_name(name) {
                Some(operation) => operation.access == Access::Trade,
                // A tool unknown to the catalog is treated as the most dangerous class.
                None => name.starts_with("raw/") && !name.contains('*'),
            })
    }
}

/// Parses one of our documents. Every error has the file, the line and the key.
pub(crate) fn parsed<T>(
    text: &str,
    path: &Path,
    read: impl FnOnce(Fields<'_>) -> Result<T, Problem>,
) -> Result<T, ManifestError> {
    let invalid = |at: usize, key: Option<String>, message: String| ManifestError::Invalid {
        path: path.to_owned(),
        line: text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1,
        key,
        message,
    };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        invalid(at, None, one_line(error.message().trim(), MAX_MESSAGE))
    })?;
    read(Fields::root(&document)).map_err(|problem| {
        let key = one_line(&problem.key, MAX_MESSAGE);
        let message = one_line(&problem.message, MAX_MESSAGE);
        let message = match problem.later {
            true => format!("`{key}` {message}"),
            false => format!("{key}: {message}"),
        };
        invalid(problem.at, Some(key), message)
    })
}

fn read(root: Fields<'_>, path: &Path) -> Result<Manifest, Problem> {
    root.only(KEYS, RESERVED_KEYS)?;
    let plugin = root.need("plugin", "\"a-name\"")?.name()?.to_owned();
    let item = root.need("component", "\"file.wasm\"")?;
    let component = item.text()?;
    if component.contains("://") {
        return Err(item.wrong("only files next to the manifest can be loaded by this version"));
    }
    if component.is_empty() {
        return Err(item.wrong("is empty; it names the component's file"));
    }
    let digest = root.read("digest", digest)?;
    let account = root.need("account", "\"a-name\"")?.name()?.to_owned();

    let egress = root.read("egress", |item| match item.text()? {
        "licensed" => Ok(Egress::Licensed),
        other => Err(item.wrong(&format!(
            "`{other}` is not \"licensed\", which lets licensed data out; without the key it may not leave"
        ))),
    })?;
    let (grants, http) = granted(&root)?;
    let folders = folders(&root)?;
    let limits = root.read("limits", |item| limits(&item.table()?))?;
    let config = root.read("config", config::read)?;
    let aliases = aliases(&root)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let manifest = Manifest {
        component: folder.join(component),
        digest,
        egress: egress.unwrap_or_default(),
        grants,
        limits: limits.unwrap_or_default(),
        config: config.unwrap_or_default(),
        http,
        folders,
        aliases,
        path: path.to_owned(),
        ..Manifest::without_grants(plugin, account)
    };
    match manifest.leak() {
        Some(leak) => Err(root.absent("egress", &leak.to_string())),
        None => Ok(manifest),
    }
}

/// Parses the `grant` and `http` tables of a table.
pub(crate) fn granted(root: &Fields<'_>) -> Result<(Vec<Grant>, Vec<HttpGrant>), Problem> {
    let mut names = BTreeSet::new();
    let mut grants = Vec::new();
    let mut patterns = 0;
    let tables = root.tables("grant", MAX_GRANTS)?;
    for (at, table) in tables.into_iter().enumerate() {
        let first = table.get("name").or_else(|| table.get("allow"));
        let grant = Grant::read(table.called(format!("grant[{at}]")))?;
        patterns += grant.patterns();
        check_count(patterns, first.as_ref())?;
        unique(&mut names, &grant.name, first)?;
        grants.push(grant);
    }
    let mut http = Vec::new();
    let tables = root.tables("http", MAX_GRANTS)?;
    for (at, table) in tables.into_iter().enumerate() {
        let first = table.get("name").or_else(|| table.get("allow"));
        let grant = HttpGrant::read(table.called(format!("http[{at}]")))?;
        patterns += grant.methods.len() + grant.addresses.len() + grant.headers.len();
        check_count(patterns, first.as_ref())?;
        unique(&mut names, &grant.name, first)?;
        http.push(grant);
    }
    Ok((grants, http))
}

fn folders(root: &Fields<'_>) -> Result<Vec<FolderGrant>, Problem> {
    let mut names = BTreeSet::new();
    let mut folders = Vec::new();
    let tables = root.tables("folder", MAX_FOLDERS)?;
    for (at, table) in tables.into_iter().enumerate() {
        let name = table.get("name");
        let grant = FolderGrant::read(table.called(format!("folder[{at}]")))?;
        unique(&mut names, &grant.name, name)?;
        folders.push(grant);
    }
    Ok(folders)
}

fn aliases(root: &Fields<'_>) -> Result<Vec<Alias>, Problem> {
    let mut names = BTreeSet::new();
    let mut aliases = Vec::new();
    let tables = root.tables("alias", MAX_ALIASES)?;
    for (at, table) in tables.into_iter().enumerate() {
        let name = table.get("name");
        let alias = Alias::read(table.called(format!("alias[{at}]")))?;
        if let Some(item) = name.filter(|_| !names.insert(alias.name.clone())) {
            let name = &alias.name;
            return Err(item.wrong(&format!(
                "there are two aliases of this name, `{name}`; give one another name"
            )));
        }
        aliases.push(alias);
    }
    Ok(aliases)
}

/// Compiling a manifest, and each decision by it, takes time in proportion to its patterns.
fn check_count(patterns: usize, item: Option<&Item<'_>>) -> Result<(), Problem> {
    match item {
        Some(item) if patterns > MAX_PATTERNS => Err(item.wrong(&format!(
            "is in the grant with which the lists of all grants have {patterns} entries; at most {MAX_PATTERNS} are allowed, and `*` stands for any characters"
        ))),
        _ => Ok(()),
    }
}

/// Counters and audit records refer to a grant by its name, so names are unique.
fn unique(names: &mut BTreeSet<String>, name: &str, item: Option<Item<'_>>) -> Result<(), Problem> {
    match item {
        Some(item) if !names.insert(name.to_owned()) => Err(item.wrong(&format!(
            "there are two grants of this name, `{name}`; give one another name"
        ))),
        _ => Ok(()),
    }
}

fn limits(table: &Fields<'_>) -> Result<Limits, Problem> {
    table.only(&["memory", "cpu", "wall", "concurrency", "output"], &[])?;
    let mut limits = Limits::default();
    table.set("memory", &mut limits.memory, Item::size)?;
    table.set("output", &mut limits.output, Item::size)?;
    table.set("cpu", &mut limits.cpu, Item::duration)?;
    table.set("wall", &mut limits.wall, Item::duration)?;
    table.set("concurrency", &mut limits.concurrency, |item| {
        Ok(usize::try_from(item.count(1..=1000)?).unwrap_or(1000))
    })?;
    Ok(limits)
}

fn digest(item: &Item<'_>) -> Result<String, Problem> {
    let text = item.text()?;
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if hex.len() == 64 && hex.bytes().all(lower) {
        Ok(text.to_owned())
    } else {
        Err(item.wrong(&format!(
            "`{text}` is not `sha256:` with 64 lower-case hexadecimal digits"
        )))
    }
}
