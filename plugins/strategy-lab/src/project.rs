//! The project that an action works in: found, or created, and given its source.
//!
//! Invariant: code that is already in a project is replaced only by a source that the caller gave.

use qchost_sdk::files::ProjectFile;
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, ProjectId};
use serde::Deserialize;

use crate::strategies::{self, Strategy};

/// The project, where neither the caller nor the manifest names one.
const DEFAULT_NAME: &str = "Lab/strategy-lab";

/// The agent's settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The project, by its name, for an invocation that names none.
    #[serde(default)]
    project: Option<String>,
}

/// A project that is there.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) name: String,
    pub(crate) language: Language,
}

/// Finds the project, creates it if it is missing, and writes the source into it: the caller's,
/// or the bundled one into a new project.
pub(crate) fn prepare(
    reference: Option<ProjectReference>,
    source: Option<&str>,
) -> Result<Project, Failure> {
    let reference = match reference {
        Some(reference) => reference,
        None => default()?,
    };
    let (project, is_new) = match &reference {
        ProjectReference::Id(_) => (existing(&reference)?, false),
        ProjectReference::Name(name) => match lookup::find(name)? {
            Some(project) => (project.into(), false),
            None => (create(name, &Language::Python)?, true),
        },
    };
    match source {
        Some(source) => write(&project, source)?,
        None if is_new => write_strategy(&project, strategies::named(strategies::DEFAULT)?)?,
        None => {}
    }
    Ok(project)
}

/// Finds a project that must be there already: the one of the manifest where the caller names none.
pub(crate) fn existing_or_default(reference: Option<ProjectReference>) -> Result<Project, Failure> {
    match reference {
        Some(reference) => existing(&reference),
        None => existing(&default()?),
    }
}

/// Finds a project that must be there already.
pub(crate) fn existing(reference: &ProjectReference) -> Result<Project, Failure> {
    Ok(reference.find()?.into())
}

/// The project that the manifest names.
pub(crate) fn default() -> Result<ProjectReference, Failure> {
    let Settings { project } = config::load()?;
    Ok(ProjectReference::Name(
        project.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
    ))
}

/// Fails if a project has this name already.
pub(crate) fn ensure_free(name: &str) -> Result<(), Failure> {
    match lookup::find(name)? {
        None => Ok(()),
        Some(_) => Err(Failure::invalid_input(format!(
            "there is a project \"{name}\" already; give another name"
        ))),
    }
}

/// Creates a project, whose name no other one may have.
pub(crate) fn create(name: &str, language: &Language) -> Result<Project, Failure> {
    let project = projects::create_project(name, language, None)?;
    info!(
        project = project.project_id,
        "created the project \"{}\"", project.name
    );
    Ok(project.into())
}

impl From<projects::Project> for Project {
    fn from(project: projects::Project) -> Self {
        Self {
            id: project.project_id,
            name: project.name,
            language: project.language.unwrap_or(Language::Python),
        }
    }
}

impl Project {
    /// The file that QuantConnect runs.
    pub(crate) fn main_file(&self) -> Result<&'static str, Failure> {
        match &self.language {
            Language::Python => Ok("main.py"),
            Language::CSharp => Ok("Main.cs"),
            Language::Other(language) => Err(Failure::failed(format!(
                "project \"{}\" is written in {language}; this agent writes Python and C#",
                self.name
            ))),
        }
    }
}

/// Writes the main file of a project, if it has another text.
pub(crate) fn write(project: &Project, source: &str) -> Result<(), Failure> {
    let present = own_files(project.id)?;
    put(project, &present, project.main_file()?, source)
}

/// Writes the files of a bundled strategy into a project.
pub(crate) fn write_strategy(project: &Project, strategy: &Strategy) -> Result<(), Failure> {
    let present = own_files(project.id)?;
    for file in strategy.files {
        put(project, &present, file.name, file.content)?;
    }
    Ok(())
}

/// The files of a project, without those of its libraries.
pub(crate) fn own_files(project: ProjectId) -> Result<Vec<ProjectFile>, Failure> {
    let mut files = files::read_file(project, None, None)?;
    files.retain(|file| file.is_library != Some(true));
    Ok(files)
}

/// Writes a file of a project whose files are `present`, if it has another text.
pub(crate) fn put(
    project: &Project,
    present: &[ProjectFile],
    name: &str,
    text: &str,
) -> Result<(), Failure> {
    match present.iter().find(|file| file.name == name) {
        Some(file) if file.content.as_deref() == Some(text) => {}
        Some(_) => {
            files::update_file_contents(project.id, name, text, None)?;
        }
        None => files::create_file(project.id, name, Some(text), None)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(id: ProjectId, name: &str, language: Option<Language>) -> projects::Project {
        projects::Project {
            project_id: id,
            name: name.into(),
            language,
            ..projects::Project::default()
        }
    }

    #[test]
    fn the_main_file_is_that_of_the_language() {
        let main = |language| Project::from(project(1, "p", language)).main_file();
        assert_eq!(main(None), Ok("main.py"));
        assert_eq!(main(Some(Language::CSharp)), Ok("Main.cs"));
        let failure = main(Some(Language::Other("F#".into()))).unwrap_err();
        assert!(failure.to_string().contains("written in F#"));
    }
}
