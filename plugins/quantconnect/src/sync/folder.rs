//! The local side of a sync as a granted folder, or what is below a path in it.
//!
//! Invariant: every change names what it expects at its path; the host compares and changes in one step.

use qchost_sdk::FolderError;
use qchost_sdk::folders::{Expectation, delete_file, find_file, list_files, read_file, write_file};
use qchost_sdk::prelude::*;

use super::execute::{StepError, Store};
use super::ignore::{Ignores, Selection};
use super::tree::{File, Scan, is_relative};

/// A larger file takes no part, in bytes: QuantConnect takes no such source.
const MAX_FILE: u64 = 1 << 20;
/// Most that all files may have together, in bytes: they are in memory at once, as are those of the project.
const MAX_TOTAL: u64 = 16 << 20;
const IGNORE_FILE: &str = ".gitignore";

/// A granted folder, or a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    name: String,
    /// What the paths in the folder begin with: empty, or with a slash at its end.
    prefix: String,
}

impl Folder {
    /// Checks that the folder is granted, and for writing if `writes`.
    pub(crate) fn open(name: &str, path: &str, writes: bool) -> Result<Self, Failure> {
        let granted = folders::granted();
        let Some(folder) = granted.iter().find(|it| it.name == name) else {
            let names: Vec<_> = granted.iter().map(|it| it.name.as_str()).collect();
            return Err(Failure::invalid_input(format!(
                "no folder \"{name}\" is granted to this plugin; its manifest grants: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )));
        };
        if writes && !folder.writable {
            return Err(Failure::invalid_input(format!(
                "the folder \"{name}\" is granted for reading only: use \"direction\": \"push\""
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            prefix: prefix(path)?,
        })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Reads which files take part, and those files. The `.gitignore` files of the folders above `path` count as well.
    pub(crate) fn read(&self, include: Vec<String>) -> Result<(Selection, Scan), Failure> {
        let listed = list_files(&self.name, &self.prefix).map_err(failure)?;
        let mut ignores = Ignores::default();
        let above = self
            .prefix
            .match_indices('/')
            .filter_map(|(at, _)| self.prefix.get(..at));
        let top = std::iter::once("").filter(|_| !self.prefix.is_empty());
        let above = top
            .chain(above)
            .filter(|folder| self.prefix != format!("{folder}/"));
        for folder in above {
            let path = if folder.is_empty() {
                IGNORE_FILE.to_owned()
            } else {
                format!("{folder}/{IGNORE_FILE}")
            };
            let found = find_file(&self.name, &path).map_err(failure)?;
            if let Some(bytes) = found {
                ignores.add(folder, &String::from_utf8_lossy(&bytes));
            }
        }
        for file in &listed {
            let folder = match file.path.strip_suffix(IGNORE_FILE) {
                Some("") => "",
                Some(folder) => match folder.strip_suffix('/') {
                    Some(folder) => folder,
                    None => continue,
                },
                None => continue,
            };
            let bytes = read_file(&self.name, &file.path).map_err(failure)?;
            ignores.add(folder, &String::from_utf8_lossy(&bytes));
        }
        let selection = Selection::new(include, ignores);
        let mut scan = Scan::default();
        let mut total = 0_u64;
        for file in listed.iter().filter(|file| selection.takes(&file.path)) {
            let Some(path) = file.path.strip_prefix(&self.prefix) else {
                continue;
            };
            if file.size > MAX_FILE {
                scan.skip(path, "it has more than 1 MiB");
                continue;
            }
            total = total.saturating_add(file.size);
            if total > MAX_TOTAL {
                return Err(Failure::invalid_input(format!(
                    "the files of \"{}\" have more than 16 MiB together: sync a part of it with `path`, or leave files \
                     out with a .gitignore",
                    self.name
                )));
            }
            // One that was deleted since it was listed is not there.
            let Some(bytes) = find_file(&self.name, &file.path).map_err(failure)? else {
                continue;
            };
            match String::from_utf8(bytes) {
                Ok(content) => {
                    scan.tree.insert(path.to_owned(), File::new(content));
                }
                Err(_) => scan.skip(path, "it is not text in UTF-8"),
            }
        }
        Ok((selection, scan))
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn write(&self, path: &str, file: &File, expected: &Expectation) -> Result<(), StepError> {
        let content = file.content.as_bytes();
        write_file(&self.name, &self.path(path), content, expected).map_err(refused)
    }
}

impl Store for Folder {
    fn create(&mut self, path: &str, file: &File) -> Result<(), StepError> {
        self.write(path, file, &Expectation::Absent)
    }

    fn update(&mut self, path: &str, seen: &File, file: &File) -> Result<(), StepError> {
        self.write(path, file, &expected(seen))
    }

    fn delete(&mut self, path: &str, seen: &File) -> Result<(), StepError> {
        delete_file(&self.name, &self.path(path), &expected(seen)).map_err(refused)
    }
}

fn expected(file: &File) -> Expectation {
    Expectation::Digest(file.digest.as_str().to_owned())
}

fn prefix(path: &str) -> Result<String, Failure> {
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    if !is_relative(path) {
        return Err(Failure::invalid_input(format!(
            "`path` is \"{path}\": it has to be relative, with no part that is empty, \".\" or \"..\""
        )));
    }
    Ok(format!("{path}/"))
}

fn failure(error: FolderError) -> Failure {
    match error {
        FolderError::Halted(reason) => Error::Halted(reason).into(),
        error => error.into(),
    }
}

/// Only what concerns every file ends the run.
fn refused(error: FolderError) -> StepError {
    match error {
        FolderError::InvalidPath(_) | FolderError::NotFound(_) | FolderError::Conflict(_) => {
            StepError::Refused(error.to_string())
        }
        error => StepError::Stop(failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_prefix_with_a_slash() {
        assert_eq!(prefix(""), Ok(String::new()));
        assert_eq!(prefix("algo"), Ok("algo/".into()));
        assert_eq!(prefix("algo/one/"), Ok("algo/one/".into()));
        for path in ["/algo", "../algo", "a//b", "."] {
            assert!(prefix(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_in_the_way_is_of_one_step_and_a_full_folder_ends_the_run() {
        let conflict = refused(FolderError::Conflict("`a` is there".into()));
        assert_eq!(
            conflict,
            StepError::Refused("in conflict: `a` is there".into())
        );
        let full = refused(FolderError::QuotaExceeded("it is full".into()));
        assert_eq!(
            full,
            StepError::Stop(Failure::Failed("too much: it is full".into()))
        );
        let halted = refused(FolderError::Halted("maintenance".into()));
        assert_eq!(
            halted,
            StepError::Stop(Error::Halted("maintenance".into()).into())
        );
    }
}
