//! The local side of a sync as a set of files that the caller sent. What changes in it is collected, and the caller
//! carries it out.

use std::collections::BTreeMap;

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use super::execute::{StepError, Store};
use super::ignore::{Ignores, Selection};
use super::tree::{Digest, File, Scan, is_relative};

/// A file of the set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetFile {
    /// Path of the file, such as `lib/signals.py`.
    path: String,
    /// Whole text of the file.
    content: String,
}

/// A file that the caller has to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Write {
    /// Path of the file.
    path: String,
    /// Its whole new text.
    content: String,
    /// SHA-256 of what is there now; null if nothing is. Leave the file alone if it is something else.
    expected: Option<Digest>,
}

/// A file that the caller has to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Delete {
    /// Path of the file.
    path: String,
    /// SHA-256 of what is there now. Leave the file alone if it is something else.
    expected: Digest,
}

/// Reads which files of the set take part, and those files.
pub(crate) fn read(
    files: Vec<SetFile>,
    include: Vec<String>,
) -> Result<(Selection, Scan), Failure> {
    let mut ignores = Ignores::default();
    let mut all = BTreeMap::new();
    for SetFile { path, content } in files {
        if !is_relative(&path) {
            return Err(Failure::invalid_input(format!(
                "`files` has the path \"{path}\": it has to be relative, with no part that is empty, \".\" or \"..\""
            )));
        }
        match path.strip_suffix(".gitignore") {
            Some("") => ignores.add("", &content),
            Some(folder) => {
                if let Some(folder) = folder.strip_suffix('/') {
                    ignores.add(folder, &content);
                }
            }
            None => {}
        }
        if all.insert(path.clone(), content).is_some() {
            return Err(Failure::invalid_input(format!(
                "`files` has \"{path}\" twice"
            )));
        }
    }
    let selection = Selection::new(include, ignores);
    let mut scan = Scan::default();
    let all = all.into_iter().filter(|(path, _)| selection.takes(path));
    scan.tree = all
        .map(|(path, content)| (path, File::new(content)))
        .collect();
    Ok((selection, scan))
}

/// What the caller has to do.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) write: Vec<Write>,
    pub(crate) delete: Vec<Delete>,
}

impl Collected {
    fn write(&mut self, path: &str, file: &File, expected: Option<&File>) {
        self.write.push(Write {
            path: path.to_owned(),
            content: file.content.clone(),
            expected: expected.map(|file| file.digest.clone()),
        });
    }
}

impl Store for Collected {
    fn create(&mut self, path: &str, file: &File) -> Result<(), StepError> {
        self.write(path, file, None);
        Ok(())
    }

    fn update(&mut self, path: &str, seen: &File, file: &File) -> Result<(), StepError> {
        self.write(path, file, Some(seen));
        Ok(())
    }

    fn delete(&mut self, path: &str, seen: &File) -> Result<(), StepError> {
        self.delete.push(Delete {
            path: path.to_owned(),
            expected: seen.digest.clone(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> SetFile {
        SetFile {
            path: path.into(),
            content: content.into(),
        }
    }

    #[test]
    fn the_gitignore_files_of_the_set_hold_for_it() {
        let files = vec![
            file("main.py", "1"),
            file("lib/a.csv", "2"),
            file("lib/.gitignore", "*.csv"),
            file("a.csv", "3"),
            file(".env", "secret"),
        ];
        let (selection, scan) = read(files, Vec::new()).unwrap();
        assert_eq!(scan.tree.keys().collect::<Vec<_>>(), ["a.csv", "main.py"]);
        assert!(!selection.takes("lib/other.csv"));
    }

    #[test]
    fn a_path_that_leads_out_or_comes_twice_is_refused() {
        for files in [vec![file("../x", "")], vec![file("a", "1"), file("a", "1")]] {
            assert!(matches!(
                read(files, Vec::new()),
                Err(Failure::InvalidInput(_))
            ));
        }
    }

    #[test]
    fn what_the_caller_has_to_do_names_what_it_expects() {
        let (old, new) = (File::new("old".into()), File::new("new".into()));
        let mut collected = Collected::default();
        collected.update("a", &old, &new).unwrap();
        collected.create("c", &old).unwrap();
        collected.delete("b", &old).unwrap();
        let expected: Vec<_> = collected
            .write
            .iter()
            .map(|it| (it.path.as_str(), it.expected.as_ref()))
            .collect();
        assert_eq!(expected, [("a", Some(&old.digest)), ("c", None)]);
        assert_eq!(collected.delete.len(), 1);
        assert_eq!(collected.delete[0].path, "b");
    }
}
