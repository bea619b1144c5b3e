//! What no plugin may do, whatever its manifest grants: the operator's `*.cedar` files.
//!
//! Invariants: a loaded guardrail can apply. It matches the schema, it forbids (only manifests grant), and there is a call
//! that it could concern; anything else is rejected with file and line, so that a misspelt rule does not pass unnoticed.
//! Cedar parses no text that exceeds [`bounds`], and none without enough stack.

mod bounds;
mod coverage;
mod guardrail;
mod ids;
mod persons;
mod valid;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Policy, PolicySet, ResourceConstraint, ValidationError,
};
use miette::Diagnostic;
use qchost_text::one_line;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::coverage::Coverage;
pub(crate) use self::guardrail::Guardrail;

use self::bounds::{LimitError, Total};
use self::guardrail::{Plugins, names};
use crate::engine::{
    Action, Compiled, EVIDENCE_ATTRIBUTE, Kind, PolicyError, StackSafe, actions, with_stack,
};
use crate::grantable::nearest;
use crate::roles::Right;
use crate::text_file::read_text;

/// Maximum characters of a message about a guardrail.
const MAX_MESSAGE: usize = 1000;

/// The guardrails of a host. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Guardrails(Arc<Vec<Arc<Guardrail>>>);

impl Guardrails {
    /// No guardrails.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads every `*.cedar` file of a folder, in the order of their names. A missing folder has none.
    ///
    /// # Errors
    /// When a file cannot be read, or one of its policies cannot be enforced.
    pub fn load(folder: &Path) -> Result<Self, PolicyError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PolicyError::Read { path, source }
        };
        let files = match Self::files(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::none()),
            Err(error) => return Err(failed(folder)(error)),
        };
        let mut texts = Vec::with_capacity(files.len());
        for path in files {
            let text = read_text(&path).map_err(failed(&path))?;
            texts.push((path, text));
        }
        Self::read(&texts)
    }

    /// The files of a folder that are guardrails, in the order of their names.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|is| is == "cedar") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Parses guardrails from texts; the paths are used for messages. One of a new form takes some milliseconds, so do not
    /// call this on a serving thread.
    ///
    /// # Errors
    /// When a policy cannot be enforced.
    pub fn read(files: &[(PathBuf, String)]) -> Result<Self, PolicyError> {
        let mut total = Total::default();
        let mut checked = Vec::with_capacity(files.len());
        for (path, text) in files {
            let file = File { path, text };
            checked.push((file, file.check(&mut total)?));
        }
        with_stack(|| {
            let mut ids = BTreeSet::new();
            let mut guardrails = Vec::new();
            for (file, depths) in checked {
                for (policy, at, depth) in file.policies(&depths)? {
                    let guardrail = file.guardrail(&policy, at, depth)?;
                    if !guardrail.can_forbid()? {
                        let why = guardrail.ineffective.unwrap_or_default();
                        return Err(file.error(at, format!("can never forbid anything: {why}")));
                    }
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
        })
    }

    /// The id and text of each, to be restored by [`from_stored`](Self::from_stored).
    #[must_use]
    pub fn stored(&self) -> Vec<(String, String)> {
        let texts = self.texts();
        texts
            .map(|(id, text)| (id.to_owned(), text.to_owned()))
            .collect()
    }

    /// Restores guardrails from their ids and texts.
    ///
    /// # Errors
    /// When one of them cannot be enforced.
    pub fn from_stored(stored: &[(String, String)]) -> Result<Self, PolicyError> {
        let mut total = Total::default();
        let mut checked = Vec::with_capacity(stored.len());
        for (id, text) in stored {
            let path = Path::new(id);
            let file = File { path, text };
            checked.push((file, file.check(&mut total)?));
        }
        with_stack(|| {
            let mut guardrails = Vec::new();
            for ((id, _), (file, depths)) in stored.iter().zip(checked) {
                for (policy, at, depth) in file.policies(&depths)? {
                    let guardrail = file.guardrail(&policy, at, depth)?;
                    let id = id.clone();
                    guardrails.push(Arc::new(Guardrail { id, ..guardrail }));
                }
            }
            Ok(Self(Arc::new(guardrails)))
        })
    }

    /// Those that the others do not have, independent of id and layout.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let shapes: BTreeSet<_> = others.iter().map(|other| other.shape.as_str()).collect();
        let own = self
            .iter()
            .filter(|one| !shapes.contains(one.shape.as_str()));
        Self(Arc::new(own.cloned().collect()))
    }

    /// These and the others. If ids are equal, those of the others get a mark.
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
                ..Guardrail::clone(other)
            }));
        }
        Self(Arc::new(all))
    }

    /// The ids, in the order of the files.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|guardrail| guardrail.id.as_str())
    }

    /// Remarks on valid guardrails, by id.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let about = |one: &Arc<Guardrail>| {
            let why = one.ineffective.as_deref()?;
            Some(format!("the guardrail `{}`: {why}", one.id))
        };
        self.iter().filter_map(about).collect()
    }

    /// The guardrails with their ids and original texts, in the order of the files.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .map(|guardrail| (guardrail.id.as_str(), guardrail.text.as_str()))
    }

    /// Changes whenever a guardrail changes: `sha256:…` of their ids and texts.
    #[must_use]
    pub fn revision(&self) -> String {
        let mut hash = Sha256::new();
        for guardrail in self.iter() {
            // Each part with its length, so that different sets never have the same bytes.
            for part in [&guardrail.id, &guardrail.text] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        format!("sha256:{}", hex::encode(hash.finalize()))
    }

    /// Whether any of them asks for evidence about projects.
    #[must_use]
    pub fn ask_evidence(&self) -> bool {
        self.iter().any(|guardrail| guardrail.asks_evidence)
    }

    /// What each guardrail can affect, in the order of the files. It asks Cedar about every operation, which takes a
    /// millisecond or more for each guardrail and operation.
    ///
    /// # Errors
    /// When the schema of guardrails cannot be used.
    pub fn coverage(&self) -> Result<Vec<Coverage>, PolicyError> {
        with_stack(|| self.iter().map(|guardrail| guardrail.coverage()).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Guardrail>> {
        self.0.iter()
    }
}

#[derive(Clone, Copy)]
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
            message: one_line(&message, MAX_MESSAGE),
        }
    }

    /// Checks the text before it is parsed. Returns the maximum depth of each of its policies.
    fn check(&self, total: &mut Total) -> Result<Vec<usize>, PolicyError> {
        let failed = |LimitError { at, message }| self.error(at, message);
        total.add(self.text).map_err(failed)
    }

    /// The policies, each with its offset and maximum depth.
    fn policies(&self, depths: &[usize]) -> Result<Vec<(Policy, usize, usize)>, PolicyError> {
        let set = PolicySet::from_str(self.text).map_err(|error| {
            self.error(offset(&error), format!("is no policy: {}", words(&error)))
        })?;
        if let Some(template) = set.templates().next() {
            let at = self.text.find(&template.to_cedar()).unwrap_or(0);
            let message = "is a template; a guardrail has no slots such as ?principal".to_owned();
            return Err(self.error(at, message));
        }
        let mut policies: Vec<_> = set.policies().cloned().collect();
        // Cedar names them policy0, policy1 … in order.
        policies.sort_by_key(|policy| {
            let id = policy.id().to_string();
            (id.len(), id)
        });
        // An uncounted policy would be treated as shallow.
        if policies.len() != depths.len() {
            return Err(self.error(0, "is no policy: its policies cannot be counted".to_owned()));
        }
        let mut found = Vec::with_capacity(policies.len());
        let mut from = 0;
        for (policy, depth) in policies.into_iter().zip(depths) {
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
            found.push((policy, at, *depth));
        }
        Ok(found)
    }

    fn check_valid(&self, policy: &Policy, json: &Value, at: usize) -> Result<(), PolicyError> {
        match valid::check(policy, json)? {
            Ok(()) => Ok(()),
            Err(valid::Invalid::Policy(message)) => Err(self.error(at, message)),
            Err(valid::Invalid::Error(error)) => {
                let message = match unknown_action(&error) {
                    Some(message) => message,
                    None => words(&*error),
                };
                let message = format!("does not fit the schema: {message}");
                Err(self.error(offset(&*error), message))
            }
            Err(valid::Invalid::Never(warning)) => {
                Err(self.error(offset(&*warning), words(&*warning)))
            }
        }
    }

    fn guardrail(
        &self,
        policy: &Policy,
        at: usize,
        depth: usize,
    ) -> Result<Guardrail, PolicyError> {
        let line = self.text.bytes().take(at).filter(|byte| *byte == b'\n');
        let line = line.count() + 1;
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let position = format!("{file}:{line}");
        let id = match policy.annotation("id") {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => position.clone(),
        };
        let mut json = policy
            .to_json()
            .map_err(|error| self.error(at, error.to_string()))?;
        self.check_valid(policy, &json, at)?;
        ids::check_ids(&json).map_err(|message| self.error(at, message))?;
        if let Value::Object(fields) = &mut json {
            fields.remove("annotations");
        }
        let shape = json.to_string();
        let conditions = json
            .get_mut("conditions")
            .map(Value::take)
            .unwrap_or_else(|| json!([]));
        let alone = PolicySet::from_policies([policy.clone()])
            .map_err(|error| self.error(at, error.to_string()))?;
        let alone = Arc::new(StackSafe::new(alone, depth));
        let (of_actions, of_resource) = (policy.action_constraint(), policy.resource_constraint());
        let is_about_persons = persons::about_persons(policy, &conditions);
        let asks_evidence = mentions(&conditions, EVIDENCE_ATTRIBUTE);
        let mut slices = HashMap::new();
        let mut by_kind: Vec<(Kind, Arc<Compiled>)> = Vec::new();
        for (index, action) in actions().iter().enumerate() {
            if !covers(&of_actions, action) {
                continue;
            }
            for kind in action.kinds.iter().copied() {
                let of_kind = match &of_resource {
                    ResourceConstraint::Any => true,
                    ResourceConstraint::Is(of) => of.basename() == kind.entity(),
                    ResourceConstraint::Eq(uid)
                    | ResourceConstraint::In(uid)
                    | ResourceConstraint::IsIn(_, uid) => {
                        uid.type_name().basename() == kind.entity()
                    }
                };
                if !of_kind {
                    continue;
                }
                let known = by_kind.iter().find(|(of, _)| *of == kind);
                let compiled = match known {
                    Some((_, compiled)) => Arc::clone(compiled),
                    None => {
                        let compiled = Compiled::of(&alone, &conditions, kind, depth);
                        let compiled = Arc::new(compiled);
                        by_kind.push((kind, Arc::clone(&compiled)));
                        compiled
                    }
                };
                slices.insert((index, kind), compiled);
            }
        }
        Ok(Guardrail {
            id,
            at: position,
            policy: alone,
            text: policy.to_string(),
            shape,
            plugins: Plugins::of(&policy.principal_constraint()),
            is_about_persons,
            asks_evidence,
            ineffective: is_about_persons
                .then(|| persons::ineffective(&of_actions))
                .flatten(),
            slices,
        })
    }
}

/// The message for an unknown action, with a similar one of the same interface, if there is one.
fn unknown_action(error: &ValidationError) -> Option<String> {
    let ValidationError::UnrecognizedActionId(_) = error else {
        return None;
    };
    let whole = error.to_string();
    let (_, action) = whole.split_once("unrecognized action `")?;
    let action = action.strip_suffix('`')?;
    let id = action
        .strip_prefix("Action::")
        .map_or(action, |id| id.trim_matches('"'));
    let people = Right::ALL.iter().map(|right| right.action());
    let known = actions().iter().map(|action| action.name).chain(people);
    let groups = actions()
        .iter()
        .flat_map(|action| action.groups.iter().copied());
    let near = match id.split_once('/') {
        Some((interface, _)) => nearest(
            id,
            known.filter(|name| name.split_once('/').is_some_and(|(of, _)| of == interface)),
        ),
        None => nearest(id, known.chain(groups)),
    };
    let hint = near.map_or_else(String::new, |near| {
        format!("; did you mean `Action::\"{near}\"`?")
    });
    Some(format!("there is no `Action::\"{id}\"`{hint}"))
}

/// Whether a condition, given as Cedar's JSON, refers to an attribute of this name.
fn mentions(json: &Value, attribute: &str) -> bool {
    match json {
        Value::Array(items) => items.iter().any(|item| mentions(item, attribute)),
        Value::Object(members) => members.iter().any(|(key, value)| match value {
            Value::String(text) => key == "attr" && text == attribute,
            other => mentions(other, attribute),
        }),
        _ => false,
    }
}

fn covers(constraint: &ActionConstraint, action: &Action) -> bool {
    names(constraint, action.name, &action.groups)
}

/// The offset of Cedar's error, in bytes.
fn offset(error: &dyn Diagnostic) -> usize {
    let labels = error.labels().into_iter().flatten();
    let own = labels.map(|label| label.offset()).min();
    let related = error.related().into_iter().flatten();
    own.or_else(|| related.map(offset).min()).unwrap_or(0)
}

/// Cedar's error, with its hint.
fn words(error: &dyn Diagnostic) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}
