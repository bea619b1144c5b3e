//! One `[[grant]]`: its operations, resources, limits and approval.
//!
//! There are two kinds of lists. *Scopes* (projects, organizations, keys, brokerages,
//! data-providers, commands, collaborators, recipients) are required: an operation that touches such
//! a resource is allowed only if the scope covers it, and an omitted scope covers nothing. *Conditions*
//! (files, charts, nodes, max-cost, max-parameters) narrow what is allowed, and only if present.

use std::fmt;

use qchost_catalog::{Access, AnyOf};
use serde::{Deserialize, Serialize};

use super::reader::{Fields, Item, Problem, is_name};
use crate::glob::{Glob, MAX_GLOB};
use crate::grantable::Pattern;
use crate::usd::Usd;

/// Maximum number of `[[grant]]`s, and of `[[http]]`s, of a manifest.
pub const MAX_GRANTS: usize = 256;
/// Maximum operations, names, ids and patterns in all lists of all grants of a manifest.
pub const MAX_PATTERNS: usize = 4096;
/// The key of the scope whose star covers less than a name.
pub(crate) const BROKERAGES: &str = "brokerages";

/// A named permission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its name, unique in the manifest: counters and audit records refer to it.
    pub name: String,
    /// The operations that it allows.
    pub allow: Vec<Pattern>,
    /// Scope: the projects.
    pub projects: Vec<ProjectScope>,
    /// Scope: the organisations, by id.
    pub organizations: Vec<Glob>,
    /// Scope: the keys of the Object Store.
    pub keys: Vec<Glob>,
    /// Scope: the brokerage profiles. A star covers paper profiles only.
    pub brokerages: Vec<Glob>,
    /// Scope: the data-provider profiles.
    pub data_providers: Vec<Glob>,
    /// Scope: the types of live commands.
    pub commands: Vec<Glob>,
    /// Scope: the users whose rights may be changed.
    pub collaborators: Vec<Glob>,
    /// Scope: who may get messages.
    pub recipients: Vec<Glob>,
    /// Condition: the paths of files.
    pub files: Option<Vec<Glob>>,
    /// Condition: the names of charts.
    pub charts: Option<Vec<Glob>>,
    /// Condition: the node types, or the ids of nodes.
    pub nodes: Option<Vec<Glob>>,
    /// Condition: the maximum cost of one operation. An operation of unknown cost is not covered.
    pub max_cost: Option<Usd>,
    /// Condition: the maximum number of parameters.
    pub max_parameters: Option<u32>,
    /// Its limits.
    pub limits: GrantLimits,
    /// Whether each use needs approval.
    pub approval: Approval,
}

/// A scope of projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectScope {
    /// The project of this id: `12345`.
    Id(u32),
    /// The projects of these names: `"Lab/*"`.
    Name(Glob),
    /// Projects that the plugin itself created: `{ created = true }`.
    Created,
}

impl ProjectScope {
    /// Whether it names a project in full. Nothing else covers a deleted project, which stays on the account under
    /// `Recycle Bin/`.
    pub(crate) fn names_in_full(&self) -> bool {
        matches!(self, Self::Name(glob) if glob.names_in_full())
    }

    /// Whether it covers every project.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self, Self::Name(glob) if glob.as_str() == "*")
    }
}

impl fmt::Display for ProjectScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(glob) => glob.fmt(f),
            Self::Created => f.write_str("created by this plugin"),
        }
    }
}

/// Limits on the use of a grant; `None` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GrantLimits {
    /// Maximum concurrent operations.
    pub concurrent: Option<u32>,
    /// Maximum operations per second.
    pub per_second: Option<u32>,
    /// Maximum operations per minute.
    pub per_minute: Option<u32>,
    /// Maximum operations per day (UTC).
    pub per_day: Option<u32>,
    /// Maximum total cost per day (UTC).
    pub cost_per_day: Option<Usd>,
}

impl GrantLimits {
    /// The limits that are counts, by their keys in a manifest.
    #[must_use]
    pub fn counts(self) -> [(&'static str, Option<u32>); 4] {
        [
            ("concurrent", self.concurrent),
            ("per-second", self.per_second),
            ("per-minute", self.per_minute),
            ("per-day", self.per_day),
        ]
    }

    /// The smaller of each limit.
    #[must_use]
    pub fn smaller(self, other: Self) -> Self {
        Self {
            concurrent: smaller(self.concurrent, other.concurrent),
            per_second: smaller(self.per_second, other.per_second),
            per_minute: smaller(self.per_minute, other.per_minute),
            per_day: smaller(self.per_day, other.per_day),
            cost_per_day: smaller(self.cost_per_day, other.cost_per_day),
        }
    }
}

/// The smaller limit; `None` means unlimited.
fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// The approval required before an operation is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Approval {
    /// No approval needed.
    #[default]
    None,
    /// An operator.
    Operator,
}

/// The keys of a grant in a manifest.
pub(crate) const KEYS: &[&str] = &[
    "name",
    "allow",
    "projects",
    "organizations",
    "keys",
    "brokerages",
    "data-providers",
    "commands",
    "collaborators",
    "recipients",
    "files",
    "charts",
    "nodes",
    "max-cost",
    "max-parameters",
    "limits",
    "approval",
];

impl Grant {
    /// Whether it allows an operation, on anything.
    #[must_use]
    pub fn allows(&self, operation: &str, access: Access) -> bool {
        let mut patterns = self.allow.iter();
        patterns.any(|pattern| pattern.covers(operation, access))
    }

    /// Whether it is for all of these, whichever there are.
    pub(crate) fn is_for_all(&self, what: AnyOf) -> bool {
        match what {
            AnyOf::Projects => self.projects.iter().any(ProjectScope::is_everything),
            AnyOf::Organizations => self.organizations.iter().any(|glob| glob.as_str() == "*"),
        }
    }

    /// A grant of this name that covers nothing yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The scopes that are lists of patterns, by their keys in a manifest.
    pub(crate) fn scopes(&self) -> [(&'static str, &[Glob]); 7] {
        [
            ("organizations", &self.organizations),
            ("keys", &self.keys),
            (BROKERAGES, &self.brokerages),
            ("data-providers", &self.data_providers),
            ("commands", &self.commands),
            ("collaborators", &self.collaborators),
            ("recipients", &self.recipients),
        ]
    }

    /// Total number of entries in its lists.
    pub(crate) fn patterns(&self) -> usize {
        let scopes = self.scopes().map(|(_, globs)| globs);
        let conditions = [&self.files, &self.charts, &self.nodes]
            .into_iter()
            .flatten();
        let lists = scopes.into_iter().chain(conditions.map(Vec::as_slice));
        self.allow.len() + self.projects.len() + lists.map(<[Glob]>::len).sum::<usize>()
    }

    pub(crate) fn read(fields: Fields<'_>) -> Result<Self, Problem> {
        let called = fields.get("name").and_then(|item| item.as_text());
        let fields = match called {
            Some(name) if is_name(name) => fields.called(format!("grant `{name}`")),
            _ => fields,
        };
        fields.only(KEYS, &[])?;
        let name = fields.need("name", "\"a-name\"")?.name()?;
        let allow = fields.need("allow", "[\"backtests/*\"]")?;
        let mut grant = Self::named(name);
        for entry in allow.short_list("texts", MAX_PATTERNS)? {
            let pattern =
                Pattern::parse(entry.text()?).map_err(|error| entry.wrong(&error.to_string()))?;
            grant.allow.push(pattern);
        }
        fields.set("projects", &mut grant.projects, |item| {
            let entries = item.short_list("ids, names and { created = true }", MAX_PATTERNS)?;
            entries.iter().map(project).collect()
        })?;
        for (key, list) in [
            ("organizations", &mut grant.organizations),
            ("keys", &mut grant.keys),
            (BROKERAGES, &mut grant.brokerages),
            ("data-providers", &mut grant.data_providers),
            ("commands", &mut grant.commands),
            ("collaborators", &mut grant.collaborators),
            ("recipients", &mut grant.recipients),
        ] {
            fields.set(key, list, globs)?;
        }
        grant.files = fields.read("files", globs)?;
        grant.charts = fields.read("charts", globs)?;
        grant.nodes = fields.read("nodes", globs)?;
        grant.max_cost = fields.read("max-cost", usd)?;
        grant.max_parameters = fields.read("max-parameters", |item| item.count(0..=1_000_000))?;
        fields.set("limits", &mut grant.limits, |item| {
            let table = item.table()?;
            let counts = rates(&table, &["cost-per-day"])?;
            Ok(GrantLimits {
                cost_per_day: table.read("cost-per-day", usd)?,
                ..counts
            })
        })?;
        fields.set("approval", &mut grant.approval, |item| {
            match item.text()? {
                "none" => Ok(Approval::None),
                "operator" => Ok(Approval::Operator),
                other => Err(item.wrong(&format!("`{other}` is not \"none\" or \"operator\""))),
            }
        })?;
        Ok(grant)
    }
}

/// The limits of a `limits` table that do not involve money. `others` are the keys beside theirs.
pub(crate) fn rates(table: &Fields<'_>, others: &[&str]) -> Result<GrantLimits, Problem> {
    let counts = GrantLimits::default().counts().map(|(key, _)| key);
    table.only(&[counts.as_slice(), others].concat(), &[])?;
    let count = |key| table.read(key, |item| item.count(1..=u32::MAX));
    Ok(GrantLimits {
        concurrent: count("concurrent")?,
        per_second: count("per-second")?,
        per_minute: count("per-minute")?,
        per_day: count("per-day")?,
        cost_per_day: None,
    })
}

fn project(item: &Item<'_>) -> Result<ProjectScope, Problem> {
    const SHAPE: &str =
        "is no project: write an id (12345), a name (\"Lab/*\") or { created = true }";
    if item.is_table() {
        let table = item.table()?;
        table.only(&["created"], &[])?;
        return match table.get("created") {
            Some(value) if value.flag()? => Ok(ProjectScope::Created),
            _ => Err(item.wrong(SHAPE)),
        };
    }
    if item.as_text().is_some() {
        return Ok(ProjectScope::Name(glob(item)?));
    }
    item.as_integer()
        .and_then(|id| u32::try_from(id).ok())
        .map(ProjectScope::Id)
        .ok_or_else(|| item.wrong(SHAPE))
}

fn globs(item: &Item<'_>) -> Result<Vec<Glob>, Problem> {
    let entries = item.short_list("texts", MAX_PATTERNS)?;
    entries.iter().map(glob).collect()
}

fn glob(item: &Item<'_>) -> Result<Glob, Problem> {
    Glob::parse(item.text()?).ok_or_else(|| {
        item.wrong(&format!(
            "must have 1 to {MAX_GLOB} bytes; \"*\" stands for all"
        ))
    })
}

fn usd(item: &Item<'_>) -> Result<Usd, Problem> {
    let dollars = item.number()?;
    Usd::from_f64(dollars).ok_or_else(|| {
        item.wrong(&format!(
            "{dollars} is no amount of dollars: 0 or more, and finite"
        ))
    })
}
