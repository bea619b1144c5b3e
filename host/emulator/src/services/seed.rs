//! What a cloud begins with: projects and objects from a file.
//!
//! Invariant: a seed that breaks a limit of the cloud is refused as a whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::Refusal;
use super::arguments::{check_content, check_path, is_relative_path};
use super::object_store::MAX_KEY_LENGTH;
use crate::engine::Language;
use crate::store::object::Object;
use crate::store::project::Project;
use crate::store::{State, limits};

/// What an emulator begins with when nothing is kept, in the form of its file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Seed {
    /// The projects, the first one created first.
    pub project: Vec<SeedProject>,
    /// Texts in the object store, by key.
    pub objects: BTreeMap<String, String>,
}

/// A project of a [`Seed`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SeedProject {
    /// Its name, such as `Lab/first`.
    pub name: String,
    /// `Py` or `C#`; `Py` unless set.
    #[serde(default = "python")]
    pub language: String,
    /// Its description.
    #[serde(default)]
    pub description: String,
    /// Values for `get_parameter`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The contents of its files, by name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

fn python() -> String {
    Language::Python.to_string()
}

/// Why a seed cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the seed cannot be used: {0}")]
pub struct SeedError(String);

impl From<Refusal> for SeedError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.0.join("; "))
    }
}

impl Seed {
    /// Adds everything to an empty state.
    pub(crate) fn sow(
        &self,
        state: &mut State,
        object_store_quota: usize,
    ) -> Result<(), SeedError> {
        if self.project.len() > limits::PROJECTS {
            return Err(Refusal::full(limits::PROJECTS, "projects").into());
        }
        for seed in &self.project {
            let project = seed.grow(state)?;
            state.projects.insert(project.id, project.into());
        }
        let size: usize = self.objects.values().map(String::len).sum();
        if self.objects.len() > limits::OBJECTS || size > object_store_quota {
            return Err(SeedError(
                "it has more objects than the object store holds".to_owned(),
            ));
        }
        for (key, text) in &self.objects {
            if !is_relative_path(key, MAX_KEY_LENGTH) {
                return Err(Refusal::invalid("objects", "keys that are relative paths").into());
            }
            let now = Timestamp::now();
            let object = Object {
                key: key.clone(),
                bytes: Bytes::from(text.clone()),
                created: now,
                modified: now,
            };
            state.objects.objects.insert(key.clone(), object.into());
        }
        Ok(())
    }
}

impl SeedProject {
    fn grow(&self, state: &mut State) -> Result<Project, SeedError> {
        check_path("name", &self.name)?;
        if state.projects.values().any(|other| other.name == self.name) {
            return Err(SeedError(format!(
                "the project `{}` is in it twice",
                self.name
            )));
        }
        let language = self.language.parse::<Language>();
        let language = language.map_err(|_| Refusal::invalid("language", "'Py' or 'C#'"))?;
        if self.description.chars().count() > limits::TEXT_LENGTH
            || self.files.len() > limits::FILES
            || self.parameters.len() > limits::PARAMETERS
        {
            return Err(SeedError(format!(
                "the project `{}` is too large",
                self.name
            )));
        }
        let mut project = Project::new(state.next_project_id(), self.name.clone(), language);
        project.description.clone_from(&self.description);
        project.parameters.extend(self.parameters.clone());
        for (name, content) in &self.files {
            check_path("files", name)?;
            check_content(content)?;
            project.put(name, content, state.next_number());
        }
        Ok(project)
    }
}
