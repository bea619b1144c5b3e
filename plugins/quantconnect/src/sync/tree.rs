//! What the two sides of a sync hold: paths, each with its text and the digest that it is compared by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a file's content, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn of(content: &str) -> Self {
        Self(hex::encode(Sha256::digest(content.as_bytes())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) digest: Digest,
    pub(crate) content: String,
}

impl File {
    pub(crate) fn new(content: String) -> Self {
        Self {
            digest: Digest::of(&content),
            content,
        }
    }
}

/// Files by their paths, relative to the top of what is in sync.
pub(crate) type Tree = BTreeMap<String, File>;

/// A file that takes no part in a sync, on neither side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Skipped {
    /// Path of the file.
    pub(crate) path: String,
    /// Why it takes no part.
    pub(crate) reason: String,
}

/// One side as it was read.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) tree: Tree,
    pub(crate) skipped: Vec<Skipped>,
}

impl Scan {
    pub(crate) fn skip(&mut self, path: &str, reason: impl Into<String>) {
        self.skipped.push(Skipped {
            path: path.to_owned(),
            reason: reason.into(),
        });
    }
}

/// Whether a path stays inside of what is in sync, wherever it is written.
pub(crate) fn is_relative(path: &str) -> bool {
    !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a folder cannot hold both files: one path leads through the other.
pub(crate) fn obstruct(one: &str, other: &str) -> bool {
    let through = |file: &str, path: &str| {
        path.strip_prefix(file)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    through(one, other) || through(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha_256_of_the_text() {
        assert_eq!(
            Digest::of("").as_str(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_ne!(Digest::of("a\n"), Digest::of("a\r\n"));
    }

    #[test]
    fn a_path_that_leads_out_is_none() {
        for path in ["main.py", "lib/a b.py", "..a/b..", "lib/.env"] {
            assert!(is_relative(path), "{path}");
        }
        for path in [
            "",
            "/main.py",
            "../main.py",
            "lib/../../x",
            "lib//x",
            "./x",
            "lib/",
            "a\\..\\b",
            "a\0",
        ] {
            assert!(!is_relative(path), "{path:?}");
        }
    }

    #[test]
    fn a_file_and_a_folder_of_the_same_name_are_in_each_others_way() {
        assert!(obstruct("lib", "lib/a.py") && obstruct("lib/a.py", "lib"));
        assert!(
            !obstruct("lib", "lib.py") && !obstruct("lib", "lib") && !obstruct("lib/a", "lib/b")
        );
    }
}
