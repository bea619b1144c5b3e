//! `archive-project`: puts a project aside by giving it a name under `Archive/`. Nothing is deleted.

use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::project;

/// The folder of archived projects.
const FOLDER: &str = "Archive/";
/// How many names are tried before the action gives up.
const MAX_NAMES: u32 = 100;

/// What to archive.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveProject {
    /// The project, by id or by name.
    project: ProjectReference,
}

/// The archived project.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Archived {
    /// The project's id, which stays.
    project_id: u32,
    /// The name that it had.
    from: String,
    /// The name that it has now.
    project: String,
}

/// Runs the action.
pub(crate) fn run(input: ArchiveProject) -> Result<Archived, Failure> {
    let project = project::existing(&input.project)?;
    let listed = projects::list_projects()?;
    let taken: Vec<&str> = listed.iter().map(|it| it.name.as_str()).collect();
    let name = archived(&project.name, &taken)?;
    projects::update_project(project.id, Some(&name), None)?;
    let renamed = project::existing(&ProjectReference::Id(project.id))?;
    if renamed.name != name {
        return Err(Failure::failed(format!(
            "project {} was to be renamed to \"{name}\" and is called \"{}\"",
            project.id, renamed.name
        )));
    }
    info!(project = project.id, "archived as \"{name}\"");
    Ok(Archived {
        project_id: project.id,
        from: project.name,
        project: name,
    })
}

/// The name of a project in the archive: one that is not taken.
fn archived(name: &str, taken: &[&str]) -> Result<String, Failure> {
    if name.starts_with(FOLDER) {
        return Err(Failure::invalid_input(format!(
            "\"{name}\" is in the archive already"
        )));
    }
    let numbered = (2..=MAX_NAMES).map(|number| format!("{FOLDER}{name} {number}"));
    let mut names = std::iter::once(format!("{FOLDER}{name}")).chain(numbered);
    names
        .find(|name| !taken.contains(&name.as_str()))
        .ok_or_else(|| Failure::failed(format!("the archive has {MAX_NAMES} projects \"{name}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archived_name_is_free_and_keeps_the_folder() {
        let taken = ["Lab/A", "Archive/Lab/B", "Archive/Lab/B 2"];
        assert_eq!(archived("Lab/A", &taken).unwrap(), "Archive/Lab/A");
        assert_eq!(archived("Lab/B", &taken).unwrap(), "Archive/Lab/B 3");
        let failure = archived("Archive/Lab/B", &taken).unwrap_err();
        assert!(failure.to_string().contains("in the archive already"));
    }

    #[test]
    fn a_full_archive_is_an_error() {
        let mut taken: Vec<String> = (2..=100).map(|it| format!("Archive/A {it}")).collect();
        taken.push("Archive/A".into());
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        assert!(archived("A", &taken).is_err());
        assert_eq!(archived("A", &taken[1..]).unwrap(), "Archive/A 2");
    }
}
