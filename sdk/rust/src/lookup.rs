//! Finding a project that a caller names by its id or its name.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::projects::{self, Project};
use crate::types::ProjectId;
use crate::{Error, Failure, answers};

/// A project, by its id or its name: a field of an action's input.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # fn action(project: &ProjectReference) -> Result<(), Failure> {
/// let id = project.find()?.project_id;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProjectReference {
    /// Its id.
    Id(ProjectId),
    /// Its whole name, with folders: `Lab/Momentum`.
    Name(String),
}

impl ProjectReference {
    /// The project. Its id takes `projects/read-project`, its name `projects/list-projects`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Failure::InvalidInput`] if several have the name, or the error of the call.
    pub fn find(&self) -> Result<Project, Failure> {
        match self {
            Self::Id(id) => {
                let found = projects::read_project(Some(*id), None, None)?;
                let project = found.into_iter().find(|it| it.project_id == *id);
                project.ok_or_else(|| not_found(format!("there is no project {id}")))
            }
            Self::Name(name) => self::find(name)?
                .ok_or_else(|| not_found(format!("there is no project named \"{name}\""))),
        }
    }
}

/// The one project of a name; `None` if there is none.
///
/// # Errors
/// [`Failure::InvalidInput`] if several have the name; [`Failure::Failed`] if the host could not read the whole list and
/// no project in it has the name; or the error of the call.
pub fn find(name: &str) -> Result<Option<Project>, Failure> {
    // Only what this list lacks counts.
    answers::left_out();
    let found = only(name, projects::list_projects()?)?;
    if found.is_none() && answers::left_out() > 0 {
        return Err(Failure::failed(format!(
            "the list of projects came incomplete, so it is not known whether one is named \"{name}\": give its id"
        )));
    }
    Ok(found)
}

fn not_found(message: String) -> Failure {
    Error::NotFound(message).into()
}

fn only(name: &str, all: Vec<Project>) -> Result<Option<Project>, Failure> {
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
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(id: ProjectId, name: &str) -> Project {
        Project {
            project_id: id,
            name: name.into(),
            ..Project::default()
        }
    }

    #[test]
    fn a_reference_is_an_id_or_a_name() {
        let reference = |json: &str| serde_json::from_str::<ProjectReference>(json).ok();
        assert_eq!(reference("7"), Some(ProjectReference::Id(7)));
        assert_eq!(reference("\"7\""), Some(ProjectReference::Name("7".into())));
        assert_eq!(reference("-1"), None);
        assert_eq!(reference("null"), None);
    }

    #[test]
    fn a_name_means_one_project_exactly() {
        let all = || {
            vec![
                project(1, "Lab/One"),
                project(2, "Lab/Two"),
                project(3, "Lab/Two"),
            ]
        };
        assert_eq!(only("Lab/One", all()).unwrap().unwrap().project_id, 1);
        assert!(only("lab/one", all()).unwrap().is_none());
        let failure = only("Lab/Two", all()).unwrap_err().to_string();
        assert!(failure.contains("give the id of one of 2, 3"), "{failure}");
    }
}
