//! `copy-project`: a new project with the files of another one.
//!
//! Invariant: the action succeeds only if the copy was read back and has every file of the original with the same text.

use qchost_sdk::files::ProjectFile;
use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::project;

/// What to copy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyProject {
    /// The project to copy, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The name of the copy; slashes make folders. No other project may have it.
    name: String,
}

/// The copy.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Copied {
    /// The id of the project that was copied.
    from_project_id: u32,
    /// The id of the copy.
    project_id: u32,
    /// Its name.
    project: String,
    /// The files that were copied, read back and compared. Libraries are not copied.
    files: Vec<CopiedFile>,
    /// Files that QuantConnect puts into a new project and that the original does not have.
    others: Vec<String>,
}

/// A file of the copy.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct CopiedFile {
    /// Its path.
    name: String,
    /// The length of its text in bytes.
    bytes: usize,
}

/// Runs the action.
pub(crate) fn run(input: CopyProject) -> Result<Copied, Failure> {
    let original = project::existing_or_default(input.project)?;
    project::ensure_free(&input.name)?;
    let files = texts(project::own_files(original.id)?)?;
    let copy = project::create(&input.name, &original.language)?;
    let present = project::own_files(copy.id)?;
    for (number, file) in (1..).zip(&files) {
        let total = u32::try_from(files.len()).unwrap_or(u32::MAX);
        progress::steps(number, total, &format!("copying {}", file.name));
        project::put(&copy, &present, &file.name, &file.text)?;
    }
    let differences = differences(&files, &project::own_files(copy.id)?);
    if !differences.wrong.is_empty() {
        return Err(Failure::failed(format!(
            "the copy {} (\"{}\") was made and is not like the original: {}",
            copy.id,
            copy.name,
            differences.wrong.join(", ")
        )));
    }
    let copied = |file: Text| CopiedFile {
        bytes: file.text.len(),
        name: file.name,
    };
    Ok(Copied {
        from_project_id: original.id,
        project_id: copy.id,
        project: copy.name,
        files: files.into_iter().map(copied).collect(),
        others: differences.others,
    })
}

/// A file with its text.
#[derive(Debug, PartialEq)]
struct Text {
    name: String,
    text: String,
}

/// The texts of files, which have to be known to be copied.
fn texts(files: Vec<ProjectFile>) -> Result<Vec<Text>, Failure> {
    files
        .into_iter()
        .map(|file| match file.content {
            Some(text) => Ok(Text {
                name: file.name,
                text,
            }),
            None => Err(Failure::failed(format!(
                "QuantConnect does not give the text of {}; nothing was copied",
                file.name
            ))),
        })
        .collect()
}

/// In what a copy differs from its original.
#[derive(Debug, PartialEq)]
struct Differences {
    /// Files of the original that the copy lacks, or has with another text.
    wrong: Vec<String>,
    /// Files that the copy has besides.
    others: Vec<String>,
}

fn differences(original: &[Text], copy: &[ProjectFile]) -> Differences {
    let in_copy = |name: &str| copy.iter().find(|file| file.name == name);
    let is_wrong = |file: &&Text| {
        let found = in_copy(&file.name).and_then(|it| it.content.as_deref());
        found != Some(&file.text)
    };
    let wrong = original.iter().filter(is_wrong);
    let is_other = |file: &&ProjectFile| original.iter().all(|it| it.name != file.name);
    let others = copy.iter().filter(is_other);
    Differences {
        wrong: wrong.map(|file| file.name.clone()).collect(),
        others: others.map(|file| file.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, content: Option<&str>) -> ProjectFile {
        ProjectFile {
            id: None,
            project_id: None,
            name: name.into(),
            content: content.map(str::to_owned),
            modified: None,
            open: None,
            is_library: None,
        }
    }

    fn text(name: &str, text: &str) -> Text {
        Text {
            name: name.into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_copy_is_compared_file_by_file() {
        let original = [
            text("main.py", "a"),
            text("lib/b.py", "b"),
            text("c.py", ""),
        ];
        let copy = [
            file("main.py", Some("a")),
            file("lib/b.py", Some("other")),
            file("research.ipynb", Some("{}")),
        ];
        let found = differences(&original, &copy);
        assert_eq!(found.wrong, ["lib/b.py", "c.py"]);
        assert_eq!(found.others, ["research.ipynb"]);
        // A text that is not known is not the same one.
        let found = differences(&original[..1], &[file("main.py", None)]);
        assert_eq!(found.wrong, ["main.py"]);
    }

    #[test]
    fn a_file_without_a_known_text_is_not_copied() {
        let failure = texts(vec![file("a.py", Some("")), file("b.py", None)]).unwrap_err();
        assert!(failure.to_string().contains("b.py"), "{failure}");
    }

    proptest! {
        #[test]
        fn the_same_files_never_differ(files in proptest::collection::btree_map("[a-z]{1,6}\\.py", ".{0,20}", 0..6)) {
            let original: Vec<Text> = files.iter().map(|(name, content)| text(name, content)).collect();
            let copy: Vec<ProjectFile> =
                files.iter().map(|(name, content)| file(name, Some(content))).collect();
            prop_assert_eq!(differences(&original, &copy), Differences { wrong: vec![], others: vec![] });
        }
    }
}
