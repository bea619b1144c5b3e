//! The plugins of a folder in the repository.

use std::path::Path;

/// The names of the folders that are plugins, sorted: those with a `Cargo.toml`, as in the Makefile.
///
/// # Panics
///
/// If the folder cannot be read, or a name is no UTF-8.
#[must_use]
pub fn plugins_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let plugins = entries
        .map(Result::unwrap)
        .filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<String> = plugins
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
