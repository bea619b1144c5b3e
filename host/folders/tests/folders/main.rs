//! Granted folders, and the ways out of them: each is refused, leaves what is outside as it was, and has a twin that is
//! allowed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;
mod granted;
mod kinds;
mod links;
mod paths;
mod quotas;
mod races;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{SECRET, World};
use qchost_folders::{Expectation, Folder, FolderError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

type Attempt = fn(&World) -> Result<Vec<u8>, FolderError>;

/// Why an attempt is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    InvalidPath,
    NotFound,
    ReadOnly,
    Conflict,
    QuotaExceeded,
}
use Refused::{Conflict, InvalidPath, NotFound, QuotaExceeded, ReadOnly};

/// A name, what is prepared, what is tried, why it is refused, and its allowed twin.
type Case = (&'static str, fn(&World), Attempt, Refused, Attempt);

/// Tries each, and returns how many there were.
fn try_all(cases: &[Case]) -> usize {
    for (name, prepare, attempt, refused, twin) in cases {
        let world = World::new();
        fs::create_dir(world.granted.join("d")).unwrap();
        fs::write(world.granted.join("f"), "file").unwrap();
        fs::write(world.granted.join("d/f"), "below").unwrap();
        prepare(&world);
        let before = contents(&world.outside);
        let error = match attempt(&world) {
            Ok(content) => panic!("{name}: {:?}", String::from_utf8_lossy(&content)),
            Err(error) => error,
        };
        let kind = match &error {
            FolderError::InvalidPath(_) => InvalidPath,
            FolderError::NotFound(_) => NotFound,
            FolderError::ReadOnly(_) => ReadOnly,
            FolderError::Conflict(_) => Conflict,
            FolderError::QuotaExceeded(_) => QuotaExceeded,
            FolderError::NotGranted(_) | FolderError::Unavailable(_) => panic!("{name}: {error}"),
        };
        assert_eq!(kind, *refused, "{name}: {error}");
        assert!(!error.to_string().contains(SECRET), "{name}: {error}");
        assert_eq!(contents(&world.outside), before, "{name}");
        let leftover = common::names(&world.granted);
        let leftover = leftover.iter().find(|name| name.ends_with(".tmp"));
        assert_eq!(leftover, None, "{name}");
        if let Err(error) = twin(&world) {
            panic!("the twin of {name}: {error}");
        }
        assert_eq!(contents(&world.outside), before, "the twin of {name}");
    }
    cases.len()
}

/// Everything below a folder, with the content of files.
fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            all.extend(contents(&path));
        }
        let content = if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        all.insert(path, content);
    }
    all
}

fn nothing(_: &World) {}

fn read(world: &World, path: &str) -> Result<Vec<u8>, FolderError> {
    world.folder().read(path)
}

fn write(world: &World, path: &str) -> Result<Vec<u8>, FolderError> {
    let written = world
        .folder()
        .write(path, b"written", &Expectation::Anything);
    written.and_then(|()| world.folder().read(path))
}

fn delete(world: &World, path: &str) -> Result<Vec<u8>, FolderError> {
    world
        .folder()
        .delete(path, &Expectation::Anything)
        .map(|_| Vec::new())
}

/// Lists; an empty list says that nothing was found.
fn list(world: &World, prefix: &str) -> Result<Vec<u8>, FolderError> {
    let files = world.folder().list(prefix)?;
    match files.is_empty() {
        true => Err(FolderError::NotFound(String::new())),
        false => Ok(files
            .into_iter()
            .flat_map(|file| file.path.into_bytes())
            .collect()),
    }
}

/// Whether a list of the folder names a path.
fn listed(world: &World, path: &str) -> Result<Vec<u8>, FolderError> {
    let files = world.folder().list("")?;
    let found = files.iter().find(|file| file.path == path);
    let found = found.ok_or_else(|| FolderError::NotFound(String::new()))?;
    Ok(found.path.clone().into_bytes())
}

fn absolute(world: &World, path: &str) -> String {
    world.base.path().join(path).to_str().unwrap().to_owned()
}

fn link(world: &World, target: &str, name: &str) {
    symlink(target, world.granted.join(name)).unwrap();
}

fn hard_link(world: &World, name: &str) {
    fs::hard_link(world.outside.join("secret"), world.granted.join(name)).unwrap();
}

fn pipe(world: &World) {
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, world.granted.join("pipe"), FileType::Fifo, mode, 0).unwrap();
}

fn sparse(world: &World, name: &str, size: u64) {
    fs::File::create(world.granted.join(name))
        .unwrap()
        .set_len(size)
        .unwrap();
}

fn put(folder: &Folder, path: &str, size: usize) -> Result<Vec<u8>, FolderError> {
    folder
        .write(path, &vec![0; size], &Expectation::Anything)
        .map(|()| Vec::new())
}
