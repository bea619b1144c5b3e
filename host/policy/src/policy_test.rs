//! Tests that an operator writes about manifests and guardrails: what is asked, and what must come of
//! it. Nothing is sent.
//!
//! ```toml
//! manifest = "strategy-lab.toml"           # for the cases that have none of their own
//!
//! [[case]]
//! name      = "the lab may backtest"
//! operation = "backtests/create-backtest"
//! project   = { id = 12, name = "Lab/momentum" }
//! expect    = "allowed"
//! grants    = ["lab-backtests"]
//!
//! [[case]]
//! name      = "and nothing else"
//! operation = "backtests/create-backtest"
//! project   = { id = 13, name = "Prod/main" }
//! expect    = "denied"
//! reason    = "not the project `Prod/main`"
//! ```
//!
//! A case is about the account, or about one of `project`, `organization`, `object`, `url`. Instead of
//! `manifest` it may have `[[case.grant]]` and `[[case.http]]` of its own. `context` holds the rest.
//!
//! Invariant: a key that is not understood is an error, so no case passes by being misspelt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qchost_catalog::Access;

use crate::authority::{Authority, Decision};
use crate::engine::{PolicyError, by_name};
use crate::facts::{Brokerage, Context, Evidence, Facts, Project, Resource};
use crate::grantable::{HTTP, RAW, full_name, grantable, nearest};
use crate::guardrails::Guardrails;
use crate::manifest::reader::{Fields, Item, Problem};
use crate::manifest::{self, Manifest, ManifestError};
use crate::text_file::read_text;
use crate::usd::Usd;

/// Maximum cases of a file.
const MAX_CASES: usize = 10_000;

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The decision.
    pub decision: Decision,
    /// The unmet expectations; empty if the case passed.
    pub problems: Vec<String>,
}

impl CaseResult {
    /// Whether all expectations are met.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Why a test file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PolicyTestError {
    /// The file, or a manifest that it names, cannot be read or is invalid.
    #[error(transparent)]
    File(#[from] ManifestError),
    /// A manifest cannot be enforced.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

struct Case {
    name: String,
    manifest: Source,
    operation: String,
    facts: Facts,
    allowed: bool,
    grants: Option<Vec<String>>,
    guardrails: Option<Vec<String>>,
    reason: Option<String>,
}

enum Source {
    File(PathBuf),
    Own(Box<Manifest>),
}

const KEYS: &[&str] = &[
    "name",
    "manifest",
    "grant",
    "http",
    "operation",
    "project",
    "organization",
    "object",
    "url",
    "method",
    "context",
    "expect",
    "grants",
    "guardrails",
    "reason",
];

/// Runs a test file under guardrails.
///
/// # Errors
/// When the file, or a manifest that it names, cannot be read or is invalid. A failing case is no error.
pub fn run_policy_tests(
    path: &Path,
    guardrails: &Guardrails,
) -> Result<Vec<CaseResult>, PolicyTestError> {
    let text = read_text(path).map_err(|source| ManifestError::Read {
        path: path.to_owned(),
        source,
    })?;
    let cases = manifest::parsed(&text, path, |root| cases(&root, path))?;
    let mut loaded: HashMap<PathBuf, Arc<Authority>> = HashMap::new();
    let mut results = Vec::with_capacity(cases.len());
    for case in cases {
        let authority = match &case.manifest {
            Source::Own(manifest) => {
                let manifest = Arc::new(Manifest::clone(manifest));
                Arc::new(Authority::new(manifest, guardrails)?)
            }
            Source::File(path) => match loaded.get(path) {
                Some(authority) => Arc::clone(authority),
                None => {
                    let manifest = Arc::new(Manifest::load(path)?);
                    let authority = Arc::new(Authority::new(manifest, guardrails)?);
                    loaded.insert(path.clone(), Arc::clone(&authority));
                    authority
                }
            },
        };
        results.push(case.run(&authority));
    }
    Ok(results)
}

impl Case {
    fn run(self, authority: &Authority) -> CaseResult {
        let access = by_name(&self.operation).map_or(Access::Trade, |(_, action)| action.access);
        let manifest = authority.manifest();
        let digest = manifest.digest.as_deref().unwrap_or_default();
        let decision = authority.decide(digest, &self.operation, access, &self.facts);
        let word = |allowed| if allowed { "allowed" } else { "denied" };
        let reason = decision
            .denial
            .as_ref()
            .map_or("", |denial| denial.reason.as_str());
        let mut problems = Vec::new();
        if decision.allowed != self.allowed {
            let mut problem = format!(
                "expected {}, and it is {}",
                word(self.allowed),
                word(decision.allowed)
            );
            if !reason.is_empty() {
                problem = format!("{problem}: {reason}");
            }
            problems.push(problem);
        }
        let matched: Vec<&str> = decision
            .grants
            .iter()
            .filter_map(|at| {
                if self.operation == HTTP {
                    manifest.http.get(*at).map(|grant| grant.name.as_str())
                } else {
                    manifest.grants.get(*at).map(|grant| grant.name.as_str())
                }
            })
            .collect();
        let denying: Vec<&str> = decision.guardrails.iter().map(String::as_str).collect();
        for (what, expected, found) in [
            ("grants", &self.grants, matched),
            ("guardrails", &self.guardrails, denying),
        ] {
            if let Some(expected) = expected
                && *expected != found
            {
                let (expected, found) = (expected.join(", "), found.join(", "));
                problems.push(format!(
                    "expected the {what} [{expected}], and they are [{found}]"
                ));
            }
        }
        if let Some(part) = &self.reason
            && !reason.contains(part.as_str())
        {
            problems.push(format!(
                "expected a reason with {part:?}, and it is {reason:?}"
            ));
        }
        CaseResult {
            name: self.name,
            decision,
            problems,
        }
    }
}

fn cases(root: &Fields<'_>, path: &Path) -> Result<Vec<Case>, Problem> {
    root.only(&["manifest", "case"], &[])?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let usual = root.get("manifest");
    let tables = root.tables("case", MAX_CASES)?;
    let read = |(at, table): (usize, Fields<'_>)| {
        let name = table.get("name").and_then(|item| item.as_text());
        let key = name.map_or(format!("case[{at}]"), |name| format!("case `{name}`"));
        case(&table.called(key), usual.as_ref(), folder)
    };
    tables.into_iter().enumerate().map(read).collect()
}

fn case(table: &Fields<'_>, usual: Option<&Item<'_>>, folder: &Path) -> Result<Case, Problem> {
    table.only(KEYS, &[])?;
    let name = table.need("name", "\"what it shows\"")?.owned()?;
    let (grants, http) = manifest::granted(table)?;
    let file = table.get("manifest");
    let manifest = match (file, usual, grants.is_empty() && http.is_empty()) {
        (Some(item), _, false) => {
            return Err(item.wrong("and grants of the case's own: write one of the two"));
        }
        (Some(item), _, true) => Source::File(folder.join(item.text()?)),
        (None, Some(item), true) => Source::File(folder.join(item.text()?)),
        (None, _, _) => Source::Own(Box::new(Manifest {
            grants,
            http,
            ..Manifest::without_grants("test".to_owned(), "test".to_owned())
        })),
    };
    let item = table.need("operation", "\"backtests/create-backtest\"")?;
    let operation = operation(&item)?;
    let expect = table.need("expect", "\"allowed\"")?;
    let allowed = match expect.text()? {
        "allowed" => true,
        "denied" => false,
        other => return Err(expect.wrong(&format!("`{other}` is not \"allowed\" or \"denied\""))),
    };
    let context = table.read("context", |item| context(&item.table()?))?;
    let mut context = context.unwrap_or_default();
    if let Some(tool) = operation.strip_prefix("raw/") {
        context.tool = Some(tool.to_owned());
    }
    Ok(Case {
        name,
        manifest,
        facts: Facts {
            resource: resource(table)?,
            context,
        },
        operation,
        allowed,
        grants: texts(table, "grants")?,
        guardrails: texts(table, "guardrails")?,
        reason: table.read("reason", Item::owned)?,
    })
}

fn operation(item: &Item<'_>) -> Result<String, Problem> {
    let name = item.text()?;
    if by_name(name).is_some() && name != RAW {
        return Ok(name.to_owned());
    }
    let known = grantable().map(|(name, _)| name).chain([HTTP]);
    let hint = full_name(name)
        .or_else(|| nearest(name, known))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Err(item.wrong(&format!("`{name}` is no operation{hint}")))
}

fn resource(table: &Fields<'_>) -> Result<Resource, Problem> {
    let kinds = ["project", "organization", "object", "url"];
    let mut given = kinds
        .iter()
        .filter_map(|kind| table.get(kind).map(|item| (*kind, item)));
    let Some((kind, item)) = given.next() else {
        return Ok(Resource::Account);
    };
    if let Some((other, item)) = given.next() {
        return Err(item.wrong(&format!("a case has one resource, `{kind}` or `{other}`")));
    }
    Ok(match kind {
        "project" => {
            let project = item.table()?;
            project.only(&["id", "name", "created"], &[])?;
            Resource::Project(Project {
                id: project.read("id", |id| id.count(0..=u32::MAX))?,
                name: project.need("name", "\"Lab/momentum\"")?.owned()?,
                created: project.read("created", Item::flag)?.unwrap_or(false),
            })
        }
        "organization" => Resource::Organization(item.owned()?),
        "object" => {
            let object = item.table()?;
            object.only(&["organization", "key"], &[])?;
            Resource::Object {
                organization: object.need("organization", "\"an-id\"")?.owned()?,
                key: object.need("key", "\"lab/model\"")?.owned()?,
            }
        }
        _ => {
            let text = item.text()?;
            let url = url::Url::parse(text)
                .map_err(|error| item.wrong(&format!("`{text}` is no address: {error}")))?;
            let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
                return Err(item.wrong("has no host"));
            };
            let method = table.read("method", Item::owned)?;
            Resource::Url {
                scheme: url.scheme().to_owned(),
                host: host.to_owned(),
                port,
                path: url.path().to_owned(),
                method: method.unwrap_or_else(|| "GET".to_owned()),
            }
        }
    })
}

fn context(table: &Fields<'_>) -> Result<Context, Problem> {
    table.only(
        &[
            "organization",
            "file",
            "brokerage",
            "data-provider",
            "node",
            "node-type",
            "parallel-nodes",
            "command",
            "collaborator",
            "chart",
            "recipient",
            "cost",
            "parameters",
            "live",
            "evidence",
        ],
        &[],
    )?;
    let text = |key: &str| table.read(key, Item::owned);
    let count = |key: &str| table.read(key, |item| item.count(0..=u32::MAX));
    let brokerage = table.read("brokerage", |item| {
        let table = item.table()?;
        table.only(&["profile", "live"], &[])?;
        Ok(Brokerage {
            profile: table.need("profile", "\"paper\"")?.owned()?,
            live: flag(&table)?,
        })
    })?;
    let cost = table.read("cost", |item| {
        Usd::from_f64(item.number()?).ok_or_else(|| item.wrong("is no amount of dollars"))
    })?;
    let evidence = table.read("evidence", |item| {
        let table = item.table()?;
        table.only(&["trials"], &[])?;
        let trials = table.need("trials", "800")?;
        Ok(Evidence {
            trials: trials.count(0..=u32::MAX)?,
        })
    })?;
    Ok(Context {
        organization: text("organization")?,
        file: text("file")?,
        brokerage,
        data_provider: text("data-provider")?,
        node: text("node")?,
        node_type: text("node-type")?,
        parallel_nodes: count("parallel-nodes")?,
        command: text("command")?,
        collaborator: text("collaborator")?,
        chart: text("chart")?,
        recipient: text("recipient")?,
        cost,
        parameters: count("parameters")?,
        live: flag(table)?,
        tool: None,
        evidence,
    })
}

/// The key `live`; `false` if absent.
fn flag(table: &Fields<'_>) -> Result<bool, Problem> {
    Ok(table.read("live", Item::flag)?.unwrap_or(false))
}

fn texts(table: &Fields<'_>, key: &str) -> Result<Option<Vec<String>>, Problem> {
    table.read(key, |item| {
        item.list("texts")?.iter().map(Item::owned).collect()
    })
}
