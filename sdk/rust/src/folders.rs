//! Files in folders of the host's machine, as far as a `[[folder]]` of the manifest grants them.
//!
//! ```no_run
//! use qchost_sdk::folders::Expectation;
//! use qchost_sdk::prelude::*;
//!
//! # fn action() -> Result<(), Failure> {
//! let settings = folders::find_file("inputs", "universe.csv")?.unwrap_or_default();
//! folders::write_file("reports", "2026/universe.csv", &settings, &Expectation::Anything)?;
//! # Ok(())
//! # }
//! ```

pub use crate::bindings::qchost::agent::folders::{
    Expectation, File, Folder, delete_file, granted, list_files, read_file, write_file,
};

use crate::FolderError;

/// The content of a file; `None` if there is none.
///
/// # Errors
/// If the folder is not granted, or the file cannot be read.
pub fn find_file(folder: &str, path: &str) -> Result<Option<Vec<u8>>, FolderError> {
    found(read_file(folder, path))
}

fn found(read: Result<Vec<u8>, FolderError>) -> Result<Option<Vec<u8>>, FolderError> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(FolderError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_file_is_nothing() {
        assert_eq!(found(Ok(vec![1])), Ok(Some(vec![1])));
        assert_eq!(found(Err(FolderError::NotFound("f".into()))), Ok(None));
        let unavailable = FolderError::Unavailable("the disk".into());
        assert_eq!(found(Err(unavailable.clone())), Err(unavailable));
    }
}
