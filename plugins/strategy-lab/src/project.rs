//! The project that an action works in: found, or created, and given its source.
//!
//! Invariant: code that is already in a project is replaced only by a source that the caller gave.

use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, ProjectId};
use schemars::JsonSchema;
use serde::Deserialize;

/// The strategy of a new project.
const BUNDLED: &str = include_str!("strategy.py");
/// The project, where neither the caller nor the manifest names one.
const DEFAULT_NAME: &str = "Lab/strategy-lab";

/// A project, by its id or its name.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Reference {
    /// Its id.
    Id(ProjectId),
    /// Its whole name, with folders: `Lab/Momentum`.
    Name(String),
}

/// A project that is there.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) name: String,
    language: Language,
}

/// Finds the project, creates it if it is missing, and writes the source into it: the caller's,
/// or the bundled one into a new project.
pub(crate) fn prepare(
    reference: Option<Reference>,
    source: Option<&str>,
) -> Result<Project, Failure> {
    let reference = match reference {
        Some(reference) => reference,
        None => default()?,
    };
    let (project, source) = match reference {
        Reference::Id(id) => (read(id)?, source),
        Reference::Name(name) => match find(&name)? {
            Some(project) => (project, source),
            None => (create(&name)?, Some(source.unwrap_or(BUNDLED))),
        },
    };
    if let Some(source) = source {
        write(&project, source)?;
    }
    Ok(project)
}

/// Finds a project that must be there already.
pub(crate) fn existing(reference: Reference) -> Result<Project, Failure> {
    match reference {
        Reference::Id(id) => read(id),
        Reference::Name(name) => find(&name)?
            .ok_or_else(|| Error::NotFound(format!("there is no project named \"{name}\"")).into()),
    }
}

fn default() -> Result<Reference, Failure> {
    let name = config::read("project")?;
    Ok(Reference::Name(
        name.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
    ))
}

fn read(id: ProjectId) -> Result<Project, Failure> {
    let found = projects::read_project(Some(id), None, None)?;
    let project = found.into_iter().find(|it| it.project_id == id);
    let project = project.ok_or_else(|| Error::NotFound(format!("there is no project {id}")))?;
    Ok(project.into())
}

fn find(name: &str) -> Result<Option<Project>, Failure> {
    only(name, projects::list_projects()?)
}

/// The one project of that name, if there is one.
fn only(name: &str, all: Vec<projects::Project>) -> Result<Option<Project>, Failure> {
    let mut found = all.into_iter().filter(|it| it.name == name);
    let first = found.next();
    let mut ids: Vec<String> = first.iter().map(|it| it.project_id.to_string()).collect();
    ids.extend(found.map(|it| it.project_id.to_string()));
    if ids.len() > 1 {
        return Err(Failure::invalid_input(format!(
            "several projects are named \"{name}\": give the id of one of {}",
            ids.join(", ")
        )));
    }
    Ok(first.map(Project::from))
}

fn create(name: &str) -> Result<Project, Failure> {
    let project = projects::create_project(name, &Language::Python, None)?;
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
    fn main_file(&self) -> Result<&'static str, Failure> {
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

fn write(project: &Project, source: &str) -> Result<(), Failure> {
    let name = project.main_file()?;
    let files = files::read_file(project.id, None, None)?;
    match files.iter().find(|file| file.name == name) {
        Some(file) if file.content.as_deref() == Some(source) => {}
        Some(_) => {
            files::update_file_contents(project.id, name, source, None)?;
        }
        None => files::create_file(project.id, name, Some(source), None)?,
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
    fn a_reference_is_an_id_or_a_name() {
        let reference = |json: &str| serde_json::from_str::<Reference>(json).ok();
        assert_eq!(reference("7"), Some(Reference::Id(7)));
        assert_eq!(reference("\"7\""), Some(Reference::Name("7".into())));
        assert_eq!(reference("-1"), None);
        assert_eq!(reference("null"), None);
    }

    #[test]
    fn a_name_means_one_project_exactly() {
        let all = || {
            vec![
                project(1, "Lab/One", None),
                project(2, "Lab/Two", None),
                project(3, "Lab/Two", None),
            ]
        };
        assert_eq!(only("Lab/One", all()).unwrap().unwrap().id, 1);
        assert!(only("lab/one", all()).unwrap().is_none());
        let failure = only("Lab/Two", all()).unwrap_err().to_string();
        assert!(failure.contains("give the id of one of 2, 3"), "{failure}");
    }

    #[test]
    fn the_main_file_is_that_of_the_language() {
        let main = |language| Project::from(project(1, "p", language)).main_file();
        assert_eq!(main(None), Ok("main.py"));
        assert_eq!(main(Some(Language::CSharp)), Ok("Main.cs"));
        let failure = main(Some(Language::Other("F#".into()))).unwrap_err();
        assert!(failure.to_string().contains("written in F#"));
    }

    #[test]
    fn the_bundled_strategy_reads_the_parameters_that_it_documents() {
        for line in [
            "from AlgorithmImports import *",
            "self.get_parameter(\"fast\", 20)",
            "self.get_parameter(\"slow\", 100)",
        ] {
            assert!(BUNDLED.contains(line), "{line}");
        }
    }
}
