//! The source of a secret in configuration files.
//!
//! Invariant: a source is only a reference without the secret's value, so it may be shown and
//! logged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;

use crate::credentials;

/// The forms of a source, for messages.
const FORMS: &str = "{ env = \"NAME\" }, { file = \"path\" } or { vault = \"mount/path#field\" }";

/// The source of a secret: `{ env = "NAME" }`, `{ file = "path" }` or `{ vault = "mount/path#field"
/// }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Source {
    /// In this environment variable of the host.
    Env(String),
    /// In this file, which only the host can read; a trailing line break is not part of the secret.
    File(PathBuf),
    /// In a key-value engine (version 2) of HashiCorp Vault.
    Vault(VaultPath),
}

/// A field of a secret in a key-value engine of Vault: `mount/path#field`.
///
/// The mount is the part before the first slash. An engine mounted at a path that itself contains
/// slashes is separated by two: `team/kv//path#field`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultPath {
    /// Where the engine is mounted.
    pub mount: String,
    /// The secret in it.
    pub path: String,
    /// The field of the secret.
    pub field: String,
}

/// A setting: a literal value, or the source of a secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Setting {
    /// A secret.
    Secret(Source),
    /// A value that is not secret: anything but a table.
    Plain(Value),
}

impl Source {
    /// Resolves a relative file against this folder, or against that of the credentials of systemd.
    pub fn resolve(&mut self, folder: &Path) {
        if let Self::File(file) = self {
            *file = credentials::resolve(folder, file);
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::Env(_) | Self::Vault(_) => None,
        }
    }
}

impl Setting {
    /// Resolves a relative file against this folder.
    pub fn resolve(&mut self, folder: &Path) {
        if let Self::Secret(source) = self {
            source.resolve(folder);
        }
    }

    /// The file with its secret, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Secret(source) => source.file(),
            Self::Plain(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(env) => write!(f, "the environment variable {env}"),
            Self::File(file) => write!(f, "the file {}", file.display()),
            Self::Vault(vault) => write!(f, "{vault} in Vault"),
        }
    }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.mount.contains('/') { "//" } else { "/" };
        write!(f, "{}{between}{}#{}", self.mount, self.path, self.field)
    }
}

impl TryFrom<Value> for Source {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let wrong = || format!("a secret is not written here, only where it is: {FORMS}");
        let Value::Object(table) = value else {
            return Err(wrong());
        };
        let mut entries = table.into_iter();
        let (Some((key, Value::String(location))), None) = (entries.next(), entries.next()) else {
            return Err(wrong());
        };
        if location.is_empty() {
            return Err(format!("`{key}` is empty; a secret is in {FORMS}"));
        }
        match key.as_str() {
            "env" => Ok(Self::Env(location)),
            "file" => Ok(Self::File(location.into())),
            "vault" => Ok(Self::Vault(location.parse()?)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<Value> for Setting {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Object(_) => Source::try_from(value)
                .map(Self::Secret)
                .map_err(|why| format!("a setting is a value, or a secret: {why}")),
            value => Ok(Self::Plain(value)),
        }
    }
}

impl FromStr for VaultPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is no `mount/path#field`: {why}");
        let (location, field) = text
            .split_once('#')
            .ok_or_else(|| wrong("it names no field"))?;
        let (mount, path) = location
            .split_once("//")
            .or_else(|| location.split_once('/'))
            .ok_or_else(|| wrong("it has no mount"))?;
        if field.is_empty() || field.chars().any(char::is_control) {
            return Err(wrong("its field is empty or has control characters"));
        }
        for segment in mount.split('/').chain(path.split('/')) {
            // Vault answers 404 to a path that ends in a period, and a URL cannot contain `..`.
            if segment.is_empty() || segment.ends_with('.') || segment.chars().any(char::is_control)
            {
                return Err(wrong(
                    "each part between slashes has at least one character, none of them a control character, and no period at its end",
                ));
            }
        }
        Ok(Self {
            mount: mount.to_owned(),
            path: path.to_owned(),
            field: field.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_form_of_a_source_is_understood() {
        for (given, shown) in [
            (json!({"env": "A"}), "the environment variable A"),
            (json!({"file": "a/b"}), "the file a/b"),
            (
                json!({"vault": "kv/ib/main#pin"}),
                "kv/ib/main#pin in Vault",
            ),
            (json!({"vault": "t/kv//ib#p#n"}), "t/kv//ib#p#n in Vault"),
        ] {
            let source = Source::try_from(given.clone()).unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(Setting::try_from(given).unwrap(), Setting::Secret(source));
        }
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for given in [
            json!("hunter2"),
            json!({"env": "A", "file": "hunter2"}),
            json!({"password": "hunter2"}),
            json!({"env": 1}),
            json!({"env": ""}),
            json!({}),
            json!(null),
        ] {
            let why = Source::try_from(given.clone()).unwrap_err();
            assert!(why.contains("{ file = \"path\" }"), "{why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
        for value in [json!("paper"), json!(7), json!(["a"]), json!(null)] {
            assert_eq!(
                Setting::try_from(value.clone()).unwrap(),
                Setting::Plain(value)
            );
        }
        assert!(Setting::try_from(json!({"a": "b"})).is_err());
    }

    #[test]
    fn a_place_in_vault_has_three_parts() {
        let location: VaultPath = "secret/desk/ib#password".parse().unwrap();
        assert_eq!(
            (
                location.mount.as_str(),
                location.path.as_str(),
                location.field.as_str()
            ),
            ("secret", "desk/ib", "password")
        );
        let location: VaultPath = "team/kv//ib#password".parse().unwrap();
        assert_eq!(
            (location.mount.as_str(), location.path.as_str()),
            ("team/kv", "ib")
        );
        for wrong in [
            "",
            "#",
            "secret",
            "secret#a",
            "secret/a",
            "secret/a#",
            "/a#b",
            "secret/#b",
            "secret/a//b/../c#d",
            "secret/../b#c",
            "secret/.#c",
            "secret/a.#c",
            "secret/a/#c",
            "a//b//c#d",
            "secret/a\n#c",
            "secret/a#\u{7}",
        ] {
            assert!(wrong.parse::<VaultPath>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_relative_to_the_configuration() {
        let mut setting = Setting::try_from(json!({"file": "pin"})).unwrap();
        setting.resolve(Path::new("/etc/qchost"));
        assert_eq!(
            setting,
            Setting::Secret(Source::File("/etc/qchost/pin".into()))
        );
    }

    proptest! {
        #[test]
        fn a_place_is_read_back_as_it_is_shown(text in "[a-z./#% \\n]{0,16}") {
            if let Ok(location) = text.parse::<VaultPath>() {
                prop_assert_eq!(location.to_string().parse::<VaultPath>().unwrap(), location);
            }
        }
    }
}
