//! keeper: a test agent. It uses the folders that its manifest grants.

use qchost_sdk::folders::Expectation;
use qchost_sdk::prelude::*;
use serde::Deserialize;

/// A file of a folder, or what paths begin with.
#[derive(Deserialize, JsonSchema)]
struct Place {
    /// The name of the folder.
    folder: String,
    /// The path.
    path: String,
}

/// What to write.
#[derive(Deserialize, JsonSchema)]
struct Note {
    /// The name of the folder.
    folder: String,
    /// The path.
    path: String,
    /// The content.
    content: String,
    /// Whether the file must not be there.
    new: Option<bool>,
}

/// Uses folders.
#[agent(name = "keeper")]
mod agent {
    use super::*;

    /// List the granted folders, with a mark on those that may be written to.
    #[action(read_only)]
    fn granted() -> Result<Vec<String>, Failure> {
        let granted = folders::granted().into_iter();
        let marked = granted.map(|folder| match folder.writable {
            true => format!("{}*", folder.name),
            false => folder.name,
        });
        Ok(marked.collect())
    }

    /// List the paths of files.
    #[action(read_only)]
    fn list(place: Place) -> Result<Vec<String>, Failure> {
        let files = folders::list_files(&place.folder, &place.path)?;
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    /// Read a file; nothing if there is none.
    #[action(read_only)]
    fn read(place: Place) -> Result<Option<String>, Failure> {
        let content = folders::find_file(&place.folder, &place.path)?;
        Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    }

    /// Write a file.
    #[action]
    fn write(note: Note) -> Result<(), Failure> {
        let expected = match note.new {
            Some(true) => Expectation::Absent,
            _ => Expectation::Anything,
        };
        folders::write_file(&note.folder, &note.path, note.content.as_bytes(), &expected)?;
        Ok(())
    }

    /// Delete a file.
    #[action]
    fn delete(place: Place) -> Result<(), Failure> {
        folders::delete_file(&place.folder, &place.path, &Expectation::Anything)?;
        Ok(())
    }
}
