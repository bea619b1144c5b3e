//! What no plugin may do, whatever its manifest grants: the operator's `*.cedar` files.
//!
//! Invariant: a guardrail that was loaded can apply. It fits the schema, it forbids (grants are for
//! manifests), and there is a call that it could be about; anything else is refused with its file and
//! line, so that nobody relies on a misspelling.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint, ValidationMode, ValidationWarning, Validator,
};
use miette::Diagnostic;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::coverage;
use crate::engine::{Action, Compiled, Kind, PolicyError, actions, schema};
use crate::people;
use crate::text_file::read_text;

/// The guardrails of a host. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Guardrails(Arc<Vec<Arc<Guardrail>>>);

/// One policy that forbids.
#[derive(Debug)]
pub(crate) struct Guardrail {
    /// Its `@id`, or its file and line: `trading.cedar:12`.
    pub(crate) id: String,
    /// Where it begins: `trading.cedar:12`.
    pub(crate) at: String,
    /// The policy as it was written.
    pub(crate) policy: Policy,
    /// What it says, whatever it is called and however it is laid out.
    shape: String,
    /// For each action and kind of resource that it may apply to, what is left to be asked.
    slices: Vec<((usize, Kind), Arc<Compiled>)>,
}

impl Guardrails {
    /// No guardrails.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads every `*.cedar` file of a folder, in the order of their names. A folder that is not there
    /// holds none.
    ///
    /// # Errors
    /// When a file cannot be read, or one of its policies cannot be enforced.
    pub fn load(folder: &Path) -> Result<Self, PolicyError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PolicyError::Read { path, source }
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::none()),
            Err(error) => return Err(failed(folder)(error)),
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed(folder))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "cedar")
            {
                files.push(path);
            }
        }
        files.sort();
        let mut texts = Vec::with_capacity(files.len());
        for path in files {
            let text = read_text(&path).map_err(failed(&path))?;
            texts.push((path, text));
        }
        Self::read(&texts)
    }

    /// Reads guardrails from texts; the paths are where they would be.
    ///
    /// # Errors
    /// When a policy cannot be enforced.
    pub fn read(files: &[(PathBuf, String)]) -> Result<Self, PolicyError> {
        let mut ids = BTreeSet::new();
        let mut guardrails = Vec::new();
        for (path, text) in files {
            let file = File { path, text };
            for (policy, at) in file.policies()? {
                let guardrail = file.guardrail(policy, at)?;
                if !ids.insert(guardrail.id.clone()) {
                    let message = format!(
                        "there are two guardrails with the id `{}`; give one another",
                        guardrail.id
                    );
                    return Err(file.error(at, message));
                }
                guardrails.push(Arc::new(guardrail));
            }
        }
        Ok(Self(Arc::new(guardrails)))
    }

    /// Each with its id and its text, from which [`from_kept`](Self::from_kept) makes them again.
    #[must_use]
    pub fn kept(&self) -> Vec<(String, String)> {
        let kept = self.iter();
        kept.map(|guardrail| (guardrail.id.clone(), guardrail.policy.to_string()))
            .collect()
    }

    /// Guardrails from their ids and texts.
    ///
    /// # Errors
    /// When one of them cannot be enforced.
    pub fn from_kept(kept: &[(String, String)]) -> Result<Self, PolicyError> {
        let mut guardrails = Vec::new();
        for (id, text) in kept {
            let path = Path::new(id);
            let file = File { path, text };
            for (policy, at) in file.policies()? {
                let guardrail = file.guardrail(policy, at)?;
                let id = id.clone();
                guardrails.push(Arc::new(Guardrail { id, ..guardrail }));
            }
        }
        Ok(Self(Arc::new(guardrails)))
    }

    /// Those that the others do not have, whatever they are called and however they are laid out there.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let shapes: BTreeSet<_> = others.iter().map(|other| other.shape.as_str()).collect();
        let own = self
            .iter()
            .filter(|one| !shapes.contains(one.shape.as_str()));
        Self(Arc::new(own.cloned().collect()))
    }

    /// These and the others. Where ids are the same, those of the others get a mark.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let mut all: Vec<_> = self.iter().cloned().collect();
        let mut ids: BTreeSet<String> = self.ids().map(str::to_owned).collect();
        for other in others.iter() {
            let mut id = other.id.clone();
            while !ids.insert(id.clone()) {
                id.push_str(" (in force)");
            }
            all.push(Arc::new(Guardrail {
                id,
                at: other.at.clone(),
                policy: other.policy.clone(),
                shape: other.shape.clone(),
                slices: other.slices.clone(),
            }));
        }
        Self(Arc::new(all))
    }

    /// The ids, in the order of the files.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|guardrail| guardrail.id.as_str())
    }

    /// What is worth knowing about guardrails that can be enforced, by their ids.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let about = |one: &Arc<Guardrail>| {
            let why = people::in_vain(&one.policy)?;
            Some(format!("the guardrail `{}`: {why}", one.id))
        };
        self.iter().filter_map(about).collect()
    }

    /// The guardrails with their ids, each as it was written, in the order of the files.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.iter().map(|guardrail| {
            let policy = &guardrail.policy;
            let text = policy.to_cedar().unwrap_or_else(|| policy.to_string());
            (guardrail.id.as_str(), text)
        })
    }

    /// Changes whenever a guardrail changes: `sha256:…` of their ids and texts.
    #[must_use]
    pub fn revision(&self) -> String {
        let mut hash = Sha256::new();
        for guardrail in self.iter() {
            // Each part with its length, so that no two sets have the same bytes.
            for part in [&guardrail.id, &guardrail.policy.to_string()] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        let bytes = hash.finalize();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Guardrail>> {
        self.0.iter()
    }
}

impl Guardrail {
    /// What is to be asked when a plugin of this name does this on a resource of this kind.
    pub(crate) fn applies(
        &self,
        plugin: &str,
        action: usize,
        kind: Kind,
    ) -> Option<&Arc<Compiled>> {
        let concerns = match self.policy.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Is(of) => of.basename() == "Plugin",
            // A plugin is in no group, so it is only in itself.
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => is(&uid, "Plugin", plugin),
        };
        self.slices
            .iter()
            .find(|(slice, _)| concerns && *slice == (action, kind))
            .map(|(_, compiled)| compiled)
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn error(&self, at: usize, message: String) -> PolicyError {
        let before = self.text.bytes().take(at);
        PolicyError::Guardrail {
            path: self.path.to_owned(),
            line: before.filter(|byte| *byte == b'\n').count() + 1,
            message: message.replace(char::is_control, " "),
        }
    }

    /// The policies, validated, each with the place where it begins.
    fn policies(&self) -> Result<Vec<(Policy, usize)>, PolicyError> {
        let set = PolicySet::from_str(self.text).map_err(|error| {
            self.error(place(&error), format!("is no policy: {}", words(&error)))
        })?;
        if let Some(template) = set.templates().next() {
            let at = self.text.find(&template.to_cedar()).unwrap_or(0);
            let message = "is a template; a guardrail has no slots such as ?principal".to_owned();
            return Err(self.error(at, message));
        }
        let mut policies: Vec<_> = set.policies().cloned().collect();
        // They are called policy0, policy1 … as they come.
        policies.sort_by_key(|policy| {
            let id = policy.id().to_string();
            (id.len(), id)
        });
        let mut found = Vec::with_capacity(policies.len());
        let mut from = 0;
        for policy in policies {
            let source = policy.to_cedar().unwrap_or_default();
            let at = self
                .text
                .get(from..)
                .and_then(|rest| rest.find(&source))
                .map_or(from, |at| from + at);
            from = at + source.len();
            if policy.effect() == Effect::Permit {
                let message =
                    "permits; a guardrail only forbids, and what a plugin may do is granted by its manifest"
                        .to_owned();
                return Err(self.error(at, message));
            }
            found.push((policy, at));
        }
        // One by one: what the validator takes for a set grows with the square of its policies.
        let validator = Validator::new(schema()?.clone());
        for (policy, at) in &found {
            let one = PolicySet::from_policies([policy.clone()])
                .map_err(|error| self.error(*at, error.to_string()))?;
            self.check_valid(&validator, &one)?;
        }
        Ok(found)
    }

    fn check_valid(&self, validator: &Validator, policies: &PolicySet) -> Result<(), PolicyError> {
        let checked = validator.validate(policies, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            let at = place(error);
            return Err(self.error(at, format!("does not fit the schema: {}", words(error))));
        }
        for warning in checked.validation_warnings() {
            // Names in several alphabets are the operator's business.
            let never = matches!(
                warning,
                ValidationWarning::ImpossiblePolicy(_)
                    | ValidationWarning::InvalidActionApplication(_)
                    | ValidationWarning::BidiCharsInString(_)
                    | ValidationWarning::BidiCharsInIdentifier(_)
            );
            if never {
                return Err(self.error(place(warning), words(warning)));
            }
        }
        Ok(())
    }

    fn guardrail(&self, policy: Policy, at: usize) -> Result<Guardrail, PolicyError> {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n');
        let line = line.count() + 1;
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{file}:{line}");
        let id = match policy.annotation("id") {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => place.clone(),
        };
        let mut json = policy
            .to_json()
            .map_err(|error| self.error(at, error.to_string()))?;
        coverage::check_ids(&json).map_err(|message| self.error(at, message))?;
        if let serde_json::Value::Object(fields) = &mut json {
            fields.remove("annotations");
        }
        let shape = json.to_string();
        let conditions = json
            .get_mut("conditions")
            .map(serde_json::Value::take)
            .unwrap_or_else(|| json!([]));
        let resource = json
            .get_mut("resource")
            .map(serde_json::Value::take)
            .unwrap_or_default();
        let mut slices = Vec::new();
        let mut by_kind: Vec<(Kind, Arc<Compiled>)> = Vec::new();
        for (place, action) in actions().iter().enumerate() {
            if !covers(&policy.action_constraint(), action) {
                continue;
            }
            for kind in action.kinds.iter().copied() {
                let scope = match policy.resource_constraint() {
                    ResourceConstraint::Any => json!({ "op": "All" }),
                    ResourceConstraint::Is(of) if of.basename() == kind.entity() => {
                        json!({ "op": "All" })
                    }
                    ResourceConstraint::Is(_) => continue,
                    ResourceConstraint::Eq(uid)
                    | ResourceConstraint::In(uid)
                    | ResourceConstraint::IsIn(_, uid) => {
                        if uid.type_name().basename() != kind.entity() {
                            continue;
                        }
                        resource.clone()
                    }
                };
                let compiled = match by_kind.iter().find(|(of, _)| *of == kind) {
                    Some((_, compiled)) => Arc::clone(compiled),
                    None => {
                        let compiled = Compiled::new("forbid", scope, conditions.clone(), kind)
                            .map(Arc::new)
                            .map_err(|message| self.error(at, message))?;
                        by_kind.push((kind, Arc::clone(&compiled)));
                        compiled
                    }
                };
                slices.push(((place, kind), compiled));
            }
        }
        Ok(Guardrail {
            id,
            at: place,
            policy,
            shape,
            slices,
        })
    }
}

fn covers(constraint: &ActionConstraint, action: &Action) -> bool {
    names(constraint, action.name, &action.groups)
}

/// Whether the scope of a policy names an action of this name, which is in these groups.
pub(crate) fn names(constraint: &ActionConstraint, name: &str, groups: &[&str]) -> bool {
    let names = |uid: &EntityUid| {
        let id: &str = uid.id().as_ref();
        id == name || groups.contains(&id)
    };
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => {
            let id: &str = uid.id().as_ref();
            id == name
        }
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}

fn is(uid: &EntityUid, of: &str, id: &str) -> bool {
    let this: &str = uid.id().as_ref();
    uid.type_name().basename() == of && this == id
}

/// Where a complaint of Cedar's is about, in bytes.
fn place(error: &dyn Diagnostic) -> usize {
    let labels = error.labels().into_iter().flatten();
    let own = labels.map(|label| label.offset()).min();
    let related = error.related().into_iter().flatten();
    own.or_else(|| related.map(place).min()).unwrap_or(0)
}

/// A complaint of Cedar's, with its hint.
fn words(error: &dyn Diagnostic) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}
