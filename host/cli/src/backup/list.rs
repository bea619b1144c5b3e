//! The list of a backup: its files, what they leave to a person, and the signature over all of it.
//!
//! Invariant: a list that was parsed names each file once, in a place that a backup has. It says nothing about who made it
//! before its key or its digest was compared with what was known of it elsewhere.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{digest, measure, names};
use crate::data_folder::DATABASE;
use crate::keys::{BackupKey, is_signed};

/// The file that lists the content of a backup.
pub const LIST: &str = "backup.json";
/// The folder of the configuration, manifests, guardrails and components in a backup.
pub const FILES: &str = "files";
/// The version of its format that this program reads and writes.
const VERSION: u32 = 3;
/// Precedes what is signed, so that a signature is valid for nothing else.
const DOMAIN: &str = "qchost backup 3\n";
/// Maximum bytes of a list: it has an entry for each segment of the audit.
pub const MAX_LIST_BYTES: u64 = 16 << 20;
/// Maximum folders that a file is in.
const MAX_DEPTH: usize = 16;

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    /// Its path in the backup.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Its SHA-256: `sha256:…`.
    pub sha256: String,
}

/// A file that was copied without values that may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incomplete {
    /// Its path in the backup.
    pub file: String,
    /// The keys of the values to put back: `config.token`.
    pub values: Vec<String>,
}

/// A component that is not in the folder of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// Its path in the backup.
    pub file: String,
    pub plugin: String,
    /// Where the manifest expects it.
    pub component: String,
}

/// A file that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    pub file: String,
    pub reason: String,
}

/// What a person has to do after a restore, beyond the secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ByHand {
    pub incomplete: Vec<Incomplete>,
    pub outside: Vec<Outside>,
    pub left_out: Vec<LeftOut>,
}

impl ByHand {
    /// A line for each; `files` is where the folder of files of the backup is now.
    pub fn lines(&self, files: &Path) -> Vec<String> {
        let place = |file: &str| {
            let name = file.strip_prefix("files/").unwrap_or(file);
            files.join(name).display().to_string()
        };
        let incomplete = self.incomplete.iter().map(|it| {
            format!(
                "{}: values that may be secrets are not in it: put back {}, and rename it without `{INCOMPLETE}`",
                place(&it.file),
                it.values.join(", ")
            )
        });
        let outside = self.outside.iter().map(|it| {
            format!(
                "{}: the component of {}, which its manifest expects as {}",
                place(&it.file),
                it.plugin,
                it.component
            )
        });
        let left_out = self.left_out.iter();
        let left_out =
            left_out.map(|it| format!("{}: it is not in the backup: {}", it.file, it.reason));
        incomplete.chain(outside).chain(left_out).collect()
    }
}

/// Folders without files and the list itself, and enough more that what was added is named.
const MAX_UNLISTED: usize = 16;

/// Ends the name of a file without its secrets, so that no host reads it.
pub const INCOMPLETE: &str = ".incomplete";

/// The content of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct List {
    /// The version of this format.
    pub version: u32,
    /// When it was taken.
    pub taken: jiff::Timestamp,
    /// The program version that made it.
    pub by: String,
    /// In the order of their paths.
    pub files: Vec<ListedFile>,
    pub by_hand: ByHand,
    /// The key that it is signed with.
    pub key: String,
    /// Of the list without this field.
    pub signature: String,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    by: String,
}

impl List {
    /// Lists and signs a folder.
    pub fn make(folder: &Path, by_hand: ByHand, key: &BackupKey) -> Result<Self> {
        let mut files = Vec::new();
        for path in names(folder, usize::MAX)? {
            let (size, sha256) = measure(&folder.join(&path), u64::MAX)?;
            files.push(ListedFile { path, size, sha256 });
        }
        let mut list = Self {
            version: VERSION,
            taken: jiff::Timestamp::now(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
            files,
            by_hand,
            key: key.public(),
            signature: String::new(),
        };
        list.check()?;
        list.signature = key.sign(&list.message()?)?;
        Ok(list)
    }

    /// Parses the text of a list.
    pub fn parse(text: &str) -> Result<Self> {
        let head: Head = serde_json::from_str(text)?;
        ensure!(
            head.version == VERSION,
            "a backup of version {}; this qchost, {}, reads version {VERSION}: use the one that took it, {}",
            head.version,
            env!("CARGO_PKG_VERSION"),
            head.by
        );
        let list: Self = serde_json::from_str(text)?;
        list.check()?;
        Ok(list)
    }

    fn check(&self) -> Result<()> {
        for file in &self.files {
            ensure!(belongs(&file.path), "`{}` belongs to no backup", file.path);
            ensure!(
                is_digest(&file.sha256),
                "`{}` is no digest of {}",
                file.sha256,
                file.path
            );
        }
        for pair in self.files.windows(2) {
            if let [one, other] = pair {
                ensure!(
                    one.path < other.path,
                    "`{}` is listed twice, or out of order",
                    other.path
                );
            }
        }
        let incomplete = self.by_hand.incomplete.iter().map(|it| &it.file);
        let outside = self.by_hand.outside.iter().map(|it| &it.file);
        for name in incomplete.chain(outside) {
            ensure!(self.file(name).is_some(), "`{name}` is not listed");
        }
        for name in ["host.key", DATABASE] {
            ensure!(self.file(name).is_some(), "{name} is not in the backup");
        }
        Ok(())
    }

    /// The entry of a file.
    pub fn file(&self, path: &str) -> Option<&ListedFile> {
        let at = self.files.binary_search_by(|it| it.path.as_str().cmp(path));
        self.files.get(at.ok()?)
    }

    fn message(&self) -> Result<Vec<u8>> {
        let unsigned = Self {
            signature: String::new(),
            ..self.clone()
        };
        let mut message = DOMAIN.as_bytes().to_vec();
        serde_json::to_writer(&mut message, &unsigned)?;
        Ok(message)
    }

    /// Whether it is signed with the key that it names.
    pub fn is_signed(&self) -> Result<bool> {
        Ok(is_signed(&self.key, &self.message()?, &self.signature))
    }

    /// Checks that a folder contains the listed files as they are listed, and no other one but the list.
    pub fn check_files(&self, folder: &Path) -> Result<()> {
        // Each listed file and the folders above it.
        let parts = self.files.iter().map(|it| it.path.split('/').count());
        let mut found = names(folder, parts.sum::<usize>().saturating_add(MAX_UNLISTED))?;
        found.remove(LIST);
        for file in &self.files {
            let path = folder.join(&file.path);
            ensure!(
                found.remove(&file.path),
                "{}: it is not in the backup any more; nothing was restored",
                path.display()
            );
            let (size, sha256) = measure(&path, file.size)?;
            ensure!(
                size == file.size && sha256 == file.sha256,
                "{}: it was changed since the backup was taken; nothing was restored",
                path.display()
            );
        }
        if let Some(extra) = found.first() {
            bail!(
                "{}: it was added since the backup was taken; nothing was restored",
                folder.join(extra).display()
            );
        }
        Ok(())
    }

    /// The text of the list with its digest.
    pub fn to_text(&self) -> Result<(String, String)> {
        let text = serde_json::to_string_pretty(self).context("the list")?;
        ensure!(
            u64::try_from(text.len())? < MAX_LIST_BYTES,
            "the list of the {} files has {} bytes, and one of {MAX_LIST_BYTES} or more cannot be restored",
            self.files.len(),
            text.len()
        );
        let digest = digest(text.as_bytes());
        Ok((text, digest))
    }
}

/// Whether a path is one that a backup has: below its folder, and in its place.
fn belongs(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(char::is_control);
    parts.iter().all(plain)
        && match *parts.as_slice() {
            ["host.key" | DATABASE] | ["audit" | "texts", _] => true,
            [FILES, _, ..] => parts.len() <= MAX_DEPTH,
            _ => false,
        }
}

/// Whether a text is a digest in the only form that is written.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(path: &str, size: u64) -> ListedFile {
        ListedFile {
            path: path.to_owned(),
            size,
            sha256: digest(path.as_bytes()),
        }
    }

    /// A signed list of these files and those that every backup has.
    fn signed(files: Vec<ListedFile>) -> List {
        let folder = tempfile::tempdir().unwrap();
        let key = BackupKey::open(folder.path()).unwrap();
        let mut list = List {
            version: VERSION,
            taken: "2026-01-31T00:00:00Z".parse().unwrap(),
            by: "0.1.0".to_owned(),
            files,
            by_hand: ByHand::default(),
            key: key.public(),
            signature: String::new(),
        };
        list.files
            .extend([listed("host.key", 32), listed(DATABASE, 4096)]);
        list.files.sort_by(|one, other| one.path.cmp(&other.path));
        list.signature = key.sign(&list.message().unwrap()).unwrap();
        list
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", List::parse(text).unwrap_err())
    }

    #[test]
    fn a_list_is_refused_if_it_names_a_place_outside_of_the_backup() {
        for path in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../up",
            "files",
            "files/",
            "files/../../up",
            "files//a",
            "files/./a",
            "files/a\nb",
            "audit/a/b",
            "audit",
            "texts/..",
            "state.db/a",
            "state.db-wal",
            "backup.json",
            "other",
        ] {
            let text = signed(vec![listed(path, 1)]).to_text().unwrap().0;
            assert!(refusal(&text).contains("belongs to no backup"), "{path}");
        }
        let deep = format!("files/{}", ["a"; MAX_DEPTH].join("/"));
        let text = signed(vec![listed(&deep, 1)]).to_text().unwrap().0;
        assert!(refusal(&text).contains("belongs to no backup"));
        // The twins.
        for path in [
            "files/a",
            "files/plugins/a b.toml",
            "audit/1.jsonl",
            "texts/x",
        ] {
            let list = signed(vec![listed(path, 1)]);
            let text = list.to_text().unwrap().0;
            assert_eq!(List::parse(&text).unwrap(), list);
        }
    }

    #[test]
    fn a_list_is_refused_for_what_is_missing_twice_unknown_or_of_another_version() {
        let good = signed(vec![listed("files/a", 1)]);
        let with = |change: &dyn Fn(&mut List)| {
            let mut list = good.clone();
            change(&mut list);
            refusal(&list.to_text().unwrap().0)
        };
        let twice = with(&|list| list.files.push(list.files[2].clone()));
        assert!(twice.contains("listed twice"), "{twice}");
        let order = with(&|list| list.files.reverse());
        assert!(order.contains("out of order"), "{order}");
        let missing = with(&|list| drop(list.files.remove(1)));
        assert!(missing.contains("host.key is not in"), "{missing}");
        let hash = with(&|list| list.files[0].sha256 = list.files[0].sha256.to_uppercase());
        assert!(hash.contains("is no digest"), "{hash}");
        let pointed = with(&|list| {
            list.by_hand.incomplete.push(Incomplete {
                file: "files/b".to_owned(),
                values: Vec::new(),
            });
        });
        assert!(pointed.contains("`files/b` is not listed"), "{pointed}");
        let text = good.to_text().unwrap().0;
        for (from, to, says) in [
            ("\"version\": 3", "\"version\": 4, \"new\": 1", "version 4"),
            ("\"version\": 3", "\"version\": 2", "reads version 3"),
            ("\"version\": 3", "\"version\": -1", "invalid value"),
            (
                "\"version\": 3",
                "\"version\": 3, \"new\": 1",
                "unknown field",
            ),
            (
                "\"version\": 3",
                "\"version\": 3, \"version\": 3",
                "duplicate",
            ),
        ] {
            assert!(text.contains(from));
            let refused = refusal(&text.replacen(from, to, 1));
            assert!(refused.contains(says), "{to}: {refused}");
        }
    }

    #[test]
    fn a_list_that_would_not_be_read_again_is_not_written() {
        let files = |count: u64| (0..count).map(|at| listed(&format!("texts/{at}"), at));
        assert!(signed(files(1000).collect()).to_text().is_ok());
        let error = signed(files(150_000).collect()).to_text().unwrap_err();
        assert!(error.to_string().contains("cannot be restored"), "{error}");
    }

    #[test]
    fn a_signature_is_valid_for_the_whole_list_and_for_one_key() {
        let good = signed(vec![listed("files/a", 1)]);
        assert!(good.is_signed().unwrap());
        let changes: [fn(&mut List); 7] = [
            |list| list.by.push('x'),
            |list| list.taken = jiff::Timestamp::UNIX_EPOCH,
            |list| list.files[0].size += 1,
            |list| list.files[0].sha256 = digest(b"other"),
            |list| {
                list.by_hand.left_out.push(LeftOut {
                    file: String::new(),
                    reason: String::new(),
                });
            },
            |list| list.key = signed(Vec::new()).key,
            |list| list.signature = String::new(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut list = good.clone();
            change(&mut list);
            assert!(!list.is_signed().unwrap(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_accept_a_place_outside_of_the_backup(
            text in ".{0,200}",
            at in any::<prop::sample::Index>(),
            path in "(files/)?[a./\\\\\u{0}-\u{20}]{0,12}",
        ) {
            drop(List::parse(&text));
            let list = signed(vec![listed(&path, 1)]);
            let good = list.to_text().unwrap().0;
            let escapes = Path::new(&path)
                .components()
                .any(|part| !matches!(part, std::path::Component::Normal(_)));
            match List::parse(&good) {
                Ok(parsed) => {
                    prop_assert!(path.starts_with("files/") && !escapes, "{path:?}");
                    prop_assert!(parsed == list && parsed.is_signed().unwrap());
                }
                Err(_) => prop_assert!(path.is_empty() || !belongs(&path)),
            }
            // A list that was cut off, or has something in the middle, is refused or not the one that was signed.
            let cut = at.index(good.len() - 1);
            let cut = (0..=cut).rev().find(|at| good.is_char_boundary(*at)).unwrap();
            let (before, after) = good.split_at(cut);
            prop_assert!(List::parse(before).is_err());
            let spliced = format!("{before}{text}{after}");
            if let Ok(parsed) = List::parse(&spliced) {
                prop_assert!(parsed == list || !parsed.is_signed().unwrap());
            }
        }
    }
}
