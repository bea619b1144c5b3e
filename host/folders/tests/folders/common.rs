//! A granted folder, and one beside it.

use std::path::{Path, PathBuf};

use qchost_folders::{Folder, Grant, Places};
use sha2::{Digest as _, Sha256};

/// What no attempt may read.
pub const SECRET: &str = "the secret of the host";

/// A granted folder beside one that is not granted.
pub struct World {
    pub base: tempfile::TempDir,
    pub granted: PathBuf,
    pub outside: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let (granted, outside) = (base.path().join("granted"), base.path().join("outside"));
        std::fs::create_dir(&granted).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), SECRET).unwrap();
        Self {
            base,
            granted,
            outside,
        }
    }

    pub fn folder(&self) -> Folder {
        self.with_quota(64 << 20, 10_000)
    }

    pub fn with_quota(&self, max_bytes: u64, max_files: u32) -> Folder {
        let grant = Grant {
            max_bytes,
            max_files,
            ..grant("out", &self.granted)
        };
        Folder::open(grant, &Places::default()).unwrap()
    }

    pub fn read_only(&self) -> Folder {
        let grant = Grant {
            writable: false,
            ..grant("out", &self.granted)
        };
        Folder::open(grant, &Places::default()).unwrap()
    }
}

pub fn grant(name: &str, path: &Path) -> Grant {
    Grant {
        name: name.to_owned(),
        path: path.to_owned(),
        writable: true,
        max_bytes: 64 << 20,
        max_files: 10_000,
    }
}

pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
