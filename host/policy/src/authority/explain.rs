//! Explains a denial: the closest grant, what it lacks, and the lines that would allow the call.
//!
//! This code does not decide. It evaluates the same scopes and conditions as the policies, after
//! Cedar has denied, and a test compares the two.

use std::fmt::Write as _;

use qchost_catalog::{Access, AnyOf, is_deleted_project};
use qchost_text::one_line;

use crate::denial::Denial;
use crate::engine::{Action, AttributeValue, Bound, Kind};
use crate::facts::{Facts, Project, Resource};
use crate::glob::Glob;
use crate::grantable::{HTTP, RAW};
use crate::manifest::{Grant, METHODS, Manifest, ProjectScope};

/// The call that was denied.
pub(super) struct Call<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) operation: &'a str,
    pub(super) access: Access,
    pub(super) facts: &'a Facts,
}

impl Call<'_> {
    /// A denial that no line in a manifest can change.
    pub(super) fn denial(&self, why: &str) -> Denial {
        Denial {
            reason: format!(
                "`{}` of `{}` ({}): {why}",
                shown(self.operation),
                self.manifest.plugin,
                self.access.word()
            ),
            nearest_grant: None,
            remedy: None,
        }
    }

    /// A denial because no grant covers the call.
    pub(super) fn uncovered(&self, action: &Action) -> Denial {
        if action.name == HTTP {
            return self.no_http();
        }
        let covering = self
            .manifest
            .grants
            .iter()
            .filter(|grant| !action.covered_by(grant).is_empty())
            .map(|grant| (grant, self.unmet(grant, action)))
            .min_by_key(|(_, unmet)| unmet.len());
        let (reason, nearest) = match covering {
            // The grant covers it, and yet was not found: no other grant would be found either.
            Some((grant, unmet)) if unmet.is_empty() => {
                let what = match &self.facts.resource {
                    Resource::Project(project) => named(project),
                    _ => "what it names".to_owned(),
                };
                let why = format!(
                    "{what} is not known to QuantConnect, or the account may not read it; the grant `{}` is for it",
                    grant.name
                );
                return Denial {
                    nearest_grant: Some(grant.name.clone()),
                    ..self.denial(&why)
                };
            }
            Some((grant, unmet)) => (
                format!(
                    "grant `{}` covers {} but not {}",
                    grant.name,
                    shown(self.operation),
                    unmet.join(", and not ")
                ),
                Some(grant.name.clone()),
            ),
            None => (
                format!(
                    "no grant of `{}` allows `{}` ({})",
                    self.manifest.plugin,
                    shown(self.operation),
                    self.access.word()
                ),
                self.mentioning(),
            ),
        };
        // A plugin must not learn which projects there are, so this is said whether there is one or not; the record tells
        // the operator.
        let reason = match &self.facts.resource {
            Resource::Project(project) if project.id.is_some() && project.name.is_empty() => {
                format!(
                    "{reason}; if the account has no such project, no grant helps, and the record says so: `qchost audit query --decision denied --limit 1`"
                )
            }
            _ => reason,
        };
        Denial {
            reason,
            nearest_grant: nearest,
            remedy: Some(self.remedy(action)),
        }
    }

    /// The first grant that allows anything of the operation's interface.
    fn mentioning(&self) -> Option<String> {
        let interface = self.operation.split('/').next()?;
        let mentions = |grant: &&Grant| grant.allow.iter().any(|p| p.mentions(interface));
        let grant = self.manifest.grants.iter().find(mentions)?;
        Some(grant.name.clone())
    }

    /// What a grant that covers the operation lacks.
    pub(super) fn unmet(&self, grant: &Grant, action: &Action) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut want = |met: bool, what: String| {
            if !met {
                unmet.push(what);
            }
        };
        let context = &self.facts.context;
        if action.name == RAW {
            let tool = context.tool.as_deref();
            let named = action.covered_by(grant).contains(&tool);
            want(tool.is_some() && named, "this tool".to_owned());
        }
        match &self.facts.resource {
            Resource::Account | Resource::Url { .. } => {}
            Resource::Organization(id) => want(covers(&grant.organizations, id), organization(id)),
            Resource::Project(project) => {
                want(covers_project(&grant.projects, project), named(project));
            }
            Resource::Object {
                organization: of,
                key,
            } => {
                want(
                    covers(&grant.keys, key),
                    format!("the object `{}`", shown(key)),
                );
                want(covers(&grant.organizations, of), organization(of));
            }
        }
        let kind = Kind::of(&self.facts.resource);
        match action.lists_beside(kind) {
            Some(Kind::Project) => want(!grant.projects.is_empty(), "any project".to_owned()),
            Some(Kind::Object) => want(!grant.keys.is_empty(), "any object".to_owned()),
            _ => {}
        }
        if let Some(what) = action.any_of {
            let (key, noun) = any_of(what);
            let wanted = format!(
                "every {noun}: its calls do not say of which one, so it needs {key} = [\"*\"]"
            );
            want(action.reaches(grant), wanted);
        }
        for (attribute, has_it) in action.attributes.each() {
            let noun = attribute.noun;
            let value = (attribute.value)(context);
            let text = value.as_ref().and_then(AttributeValue::text);
            match (attribute.bound, &value) {
                (Bound::Scope(_, globs), _) => {
                    // The organisation of the resource was looked at above.
                    let said = match &self.facts.resource {
                        Resource::Organization(of)
                        | Resource::Object {
                            organization: of, ..
                        } => attribute.name == "organization" && text == Some(of),
                        _ => false,
                    };
                    if let (Some(value), true) = (text, has_it) {
                        let met = said || covers(globs(grant), value);
                        want(met, format!("the {noun} `{}`", shown(value)));
                    }
                }
                (Bound::Profiles(_, globs), Some(AttributeValue::Brokerage(brokerage))) => {
                    let fits = |glob: &Glob| glob.matches(&brokerage.profile);
                    let named = |glob: &&Glob| !brokerage.live || glob.names_in_full();
                    let met = globs(grant).iter().filter(named).any(fits);
                    let what = match (brokerage.live, globs(grant).iter().any(fits)) {
                        (true, true) => "which is live and must be named in full",
                        (true, false) => "which is live",
                        (false, _) => "which is paper",
                    };
                    let profile = shown(&brokerage.profile);
                    want(met, format!("the {noun} `{profile}`, {what}"));
                }
                (Bound::Patterns(_, globs), _) => {
                    if let (Some(value), Some(globs)) = (text, globs(grant)) {
                        want(
                            covers(globs, value),
                            format!("the {noun} `{}`", shown(value)),
                        );
                    }
                }
                (Bound::Maximum(key, maximum), Some(AttributeValue::Number(count))) => {
                    if let Some(maximum) = maximum(grant) {
                        want(
                            *count <= maximum,
                            format!("{count} {noun} (its {key} is {maximum})"),
                        );
                    }
                }
                (Bound::Amount([key, _], maximum, _), Some(AttributeValue::Amount(amount))) => {
                    if let Some(maximum) = maximum(grant) {
                        want(
                            *amount <= maximum,
                            format!("a {noun} of {amount} (its {key} is {maximum})"),
                        );
                    }
                }
                (Bound::Amount([key, budget], maximum, day), None) if has_it => {
                    let key = match (maximum(grant), day(grant)) {
                        (Some(_), _) => Some(key),
                        (None, Some(_)) => Some(budget),
                        (None, None) => None,
                    };
                    if let Some(key) = key {
                        want(
                            false,
                            format!(
                                "a {noun} that is not known (it has a {key}; the {noun} is known of a grid, on a type of node with a \
                                 price, if QuantConnect says how long one backtest takes)"
                            ),
                        );
                    }
                }
                _ => {}
            }
        }
        unmet
    }

    /// The lines that would allow exactly this.
    fn remedy(&self, action: &Action) -> String {
        let context = &self.facts.context;
        let kind = Kind::of(&self.facts.resource);
        let mut lines = vec![("allow", list(&[self.operation]))];
        let mut organizations: Vec<&str> = context.organization.as_deref().into_iter().collect();
        match &self.facts.resource {
            Resource::Project(project) => lines.push(("projects", project_line(project))),
            Resource::Organization(id) => organizations = vec![id],
            Resource::Object { organization, key } => {
                organizations = vec![organization];
                lines.push(("keys", list(&[key])));
            }
            // Nothing is known of it yet: the call does not name it, or was not resolved.
            Resource::Account if !action.kinds.contains(&kind) => {
                lines.extend(every(action.kinds.iter().copied()));
            }
            Resource::Account | Resource::Url { .. } => {}
        }
        match action.lists_beside(kind) {
            Some(Kind::Project) => lines.push(("projects", list(&["*"]))),
            Some(Kind::Object) => lines.push(("keys", list(&["*"]))),
            _ => {}
        }
        if let Some(what) = action.any_of {
            let (key, _) = any_of(what);
            lines.push((key, list(&["*"])));
        }
        if !organizations.is_empty() {
            lines.retain(|(key, _)| *key != "organizations");
            lines.push(("organizations", list(&organizations)));
        }
        let mut known = Vec::new();
        for (attribute, has_it) in action.attributes.each() {
            let value = (attribute.value)(context);
            let value = value.as_ref().and_then(AttributeValue::text);
            let (key, is_scope) = match attribute.bound {
                Bound::Scope(key, _) | Bound::Profiles(key, _) => (key, true),
                Bound::Patterns(key, _) => (key, false),
                Bound::Maximum(..) | Bound::Amount(..) | Bound::None => continue,
            };
            let is_written = |lines: &[(&str, String)]| lines.iter().any(|(own, _)| *own == key);
            if is_written(&lines) || is_written(&known) {
                continue;
            }
            match value {
                Some(value) => known.push((key, list(&[value]))),
                // Data providers are optional, and the organisation of an object is written above.
                None if is_scope
                    && has_it
                    && action.name != RAW
                    && key != "data-providers"
                    && !action.is_optional(key)
                    && (key != "organizations" || kind == Kind::Account) =>
                {
                    lines.push((key, everything(key)));
                }
                None => {}
            }
        }
        lines.extend(known);
        if let Some(cost) = context.cost {
            let amount = cost.decimal();
            let amount = amount.trim_end_matches('0');
            let whole = if amount.ends_with('.') { "0" } else { "" };
            lines.push(("max-cost", format!("{amount}{whole}")));
        }
        lines.insert(0, ("name", quoted(&self.free_name())));
        let egress = self.manifest.egress_lines(&[self.operation], false);
        format!("{egress}{}", block("grant", &lines))
    }

    fn no_http(&self) -> Denial {
        let Resource::Url {
            scheme,
            host,
            port,
            path,
            method,
        } = &self.facts.resource
        else {
            return self.denial("it is no request");
        };
        let usual = matches!((scheme.as_str(), *port), ("https", 443) | ("http", 80));
        let origin = if usual {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{port}")
        };
        let near = self
            .manifest
            .http
            .iter()
            .find(|grant| grant.url.host == *host);
        let mut reason = format!(
            "no [[http]] of `{}` covers {} {}",
            self.manifest.plugin,
            shown(method),
            shown(&format!("{origin}{path}"))
        );
        if let Some(near) = near {
            let methods = near.methods.join(", ");
            // Writing to a string cannot fail.
            let _ = write!(reason, "; `{}` covers {methods} of {}", near.name, near.url);
        }
        let lines = [
            ("name", quoted(&self.free_name())),
            ("allow", quoted(&format!("{origin}{path}"))),
            ("methods", list(&[method])),
        ];
        Denial {
            reason,
            nearest_grant: near.map(|grant| grant.name.clone()),
            remedy: METHODS.contains(&method.as_str()).then(|| {
                format!(
                    "{}{}",
                    self.manifest.egress_lines_for_requests(),
                    block("http", &lines)
                )
            }),
        }
    }

    /// A name for a new grant that is not used yet.
    fn free_name(&self) -> String {
        let name: String = self
            .operation
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(56)
            .collect();
        let grants = self.manifest.grants.iter().map(|grant| &grant.name);
        let taken: Vec<_> = grants
            .chain(self.manifest.http.iter().map(|grant| &grant.name))
            .collect();
        let mut free = name.clone();
        let mut next = 2;
        while taken.contains(&&free) {
            free = format!("{name}-{next}");
            next += 1;
        }
        free
    }
}

fn covers(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

pub(super) fn covers_project(scopes: &[ProjectScope], project: &Project) -> bool {
    let deleted = is_deleted_project(&project.name);
    scopes.iter().any(|scope| match scope {
        _ if deleted && !scope.names_in_full() => false,
        ProjectScope::Id(id) => project.id == Some(*id),
        ProjectScope::Name(glob) => glob.matches(&project.name),
        ProjectScope::Created => project.is_created(),
    })
}

pub(super) fn covers_every_project(scopes: &[ProjectScope]) -> bool {
    scopes.iter().any(ProjectScope::is_everything)
}

fn organization(id: &str) -> String {
    format!("the organisation `{}`", shown(id))
}

fn named(project: &Project) -> String {
    let name = shown(&project.name);
    match project.id {
        Some(id) if name.is_empty() => format!("the project {id}"),
        Some(id) => format!("the project `{name}` ({id})"),
        None => format!("a project named `{name}`"),
    }
}

/// The entry of `projects` for one project: its name, which is more readable than its id; but a
/// name that contains a star would cover others too.
fn project_line(project: &Project) -> String {
    match project.id {
        Some(id) if project.name.contains('*') || project.name.is_empty() => format!("[{id}]"),
        _ => list(&[&project.name]),
    }
}

/// The lines of a grant for all resources of these kinds, each to be narrowed by the operator.
pub(crate) fn every(kinds: impl Iterator<Item = Kind>) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for key in kinds.flat_map(|kind| match kind {
        Kind::Project => &["projects"][..],
        Kind::Organization => &["organizations"],
        Kind::Object => &["keys", "organizations"],
        Kind::Account | Kind::Url => &[],
    }) {
        if !lines.iter().any(|(known, _)| known == key) {
            lines.push((key, everything(key)));
        }
    }
    lines
}

/// The key of the scope that has to be for everything, and what is in it.
pub(crate) fn any_of(what: AnyOf) -> (&'static str, &'static str) {
    match what {
        AnyOf::Projects => ("projects", "project"),
        AnyOf::Organizations => ("organizations", "organisation"),
    }
}

/// The value of a scope that is not known yet, with how to narrow it.
pub(crate) fn everything(key: &str) -> String {
    let narrower = match key {
        "projects" => "every project; narrow it to those that are meant, such as \"Lab/*\"",
        "brokerages" => "every paper profile; one with real money is named in full",
        "keys" => "every object; narrow it to those that are meant, such as \"lab/*\"",
        _ => "all of them; narrow it to those that are meant",
    };
    format!("[\"*\"]  # {narrower}")
}

fn block(table: &str, lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = format!("[[{table}]]\n");
    for (key, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key:width$} = {value}");
    }
    text
}

fn list(texts: &[&str]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// An untrusted text, short and on one line.
pub(super) fn shown(text: &str) -> String {
    one_line(text, 120)
}
