//! The project's side of a sync: its files, by QuantConnect's file operations.
//!
//! Invariant: a file is read and compared by its digest before each call that replaces or deletes it. Every change names
//! this environment, so that QuantConnect refuses it while another one holds the lock of the project's collaborators;
//! the lock is never taken, since that would take it from its holder.

use qchost_sdk::prelude::*;

use super::diff;
use super::execute::{Renames, StepError, Store};
use super::ignore::Selection;
use super::tree::{Digest, File, Scan, is_relative};

/// The environment that a lock of the project is checked against.
const CODE_SOURCE: &str = "qchost";

/// Reads the files of a project that take part; those of libraries do not. `prefix` comes before each path where the
/// selection is asked.
pub(crate) fn read(project: u32, prefix: &str, selection: &Selection) -> Result<Scan, Failure> {
    answers::left_out();
    let files = wait::until_ready(|| files::read_file(project, None, None))?;
    if answers::left_out() > 0 {
        return Err(Failure::failed(
            "the list of the project's files came incomplete; nothing was changed, since a missing file would look deleted",
        ));
    }
    let mut scan = Scan::default();
    for file in files {
        if file.is_library == Some(true) || !selection.takes(&format!("{prefix}{}", file.name)) {
            continue;
        }
        if !is_relative(&file.name) {
            scan.skip(&file.name, "the project's name of it leads out of a folder");
            continue;
        }
        match file.content {
            Some(content) => {
                scan.tree.insert(file.name, File::new(content));
            }
            None => scan.skip(&file.name, "the project's answer has no text of it"),
        }
    }
    Ok(scan)
}

/// The files of a project, to change them.
#[derive(Debug)]
pub(crate) struct ProjectStore {
    pub(crate) project: u32,
}

impl ProjectStore {
    /// Checks that a file is still what was planned with.
    fn check(&self, path: &str, seen: &Digest) -> Result<(), StepError> {
        let read = wait::until_ready(|| files::read_file(self.project, Some(path), None));
        let files = match read {
            Ok(files) => files,
            Err(Error::NotFound(_) | Error::Rejected(_)) => Vec::new(),
            Err(error) => return Err(stop(error)),
        };
        let file = files.into_iter().find(|file| file.name == path);
        let content = file.and_then(|file| file.content);
        match content {
            Some(content) if Digest::of(&content) == *seen => Ok(()),
            Some(_) => Err(changed(path, "was changed")),
            None => Err(changed(path, "was deleted, or cannot be read any more,")),
        }
    }

    /// Changes a part of a file; `false` if the project does not take the patch, and is as before.
    fn patch(&self, path: &str, seen: &File, file: &File) -> Result<bool, StepError> {
        let Some(patch) = diff::patch(path, &seen.content, &file.content) else {
            return Ok(false);
        };
        let sent = wait::until_ready(|| files::patch_file(self.project, &patch, Some(CODE_SOURCE)));
        match sent {
            Ok(()) => {}
            Err(Error::Rejected(_) | Error::InvalidArgument(_)) => return Ok(false),
            Err(error) => return Err(stop(error)),
        }
        // A patch says nothing about the lines that it does not name.
        self.check(path, &file.digest)?;
        Ok(true)
    }
}

impl Store for ProjectStore {
    fn create(&mut self, path: &str, file: &File) -> Result<(), StepError> {
        let content = Some(file.content.as_str()).filter(|it| !it.is_empty());
        sent(|| files::create_file(self.project, path, content, Some(CODE_SOURCE)))
    }

    fn update(&mut self, path: &str, seen: &File, file: &File) -> Result<(), StepError> {
        self.check(path, &seen.digest)?;
        if file.content.is_empty() {
            sent(|| files::delete_file(self.project, path, Some(CODE_SOURCE)))?;
            return self.create(path, file);
        }
        if self.patch(path, seen, file)? {
            return Ok(());
        }
        sent(|| {
            files::update_file_contents(self.project, path, &file.content, Some(CODE_SOURCE))
                .map(|_| ())
        })
    }

    fn delete(&mut self, path: &str, seen: &File) -> Result<(), StepError> {
        self.check(path, &seen.digest)?;
        sent(|| files::delete_file(self.project, path, Some(CODE_SOURCE)))
    }
}

impl Renames for ProjectStore {
    fn rename(&mut self, from: &str, to: &str, file: &File) -> Result<(), StepError> {
        self.check(from, &file.digest)?;
        sent(|| files::update_file_name(self.project, from, to, Some(CODE_SOURCE)))
    }
}

fn sent(call: impl FnMut() -> Result<(), Error>) -> Result<(), StepError> {
    wait::until_ready(call).map_err(|error| match error {
        Error::Rejected(_) | Error::InvalidArgument(_) | Error::NotFound(_) => {
            StepError::Refused(error.to_string())
        }
        error => stop(error),
    })
}

fn stop(error: Error) -> StepError {
    StepError::Stop(error.into())
}

fn changed(path: &str, what: &str) -> StepError {
    StepError::Refused(format!(
        "`{path}` {what} in the project while the sync ran; it was left as it is"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_one_step_and_any_other_error_ends_the_run() {
        let rejected = sent(|| Err(Error::Rejected(vec!["The project is locked".into()])));
        assert_eq!(
            rejected,
            Err(StepError::Refused(
                "rejected by QuantConnect: The project is locked".into()
            ))
        );
        let halted = Error::Halted("maintenance".into());
        assert_eq!(sent(|| Err(halted.clone())), Err(stop(halted.clone())));
        assert_eq!(sent(|| Ok(())), Ok(()));
    }
}
