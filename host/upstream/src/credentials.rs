//! Sources of an account's user id and API token.
//!
//! Invariants: the token is never shown (not even by `Debug`), and it is not read from a file that
//! other users on the machine can read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use qchost_secrets::is_exposed;
use secrecy::SecretString;
use serde::Deserialize;

/// Pairs of environment variables, in the order they are tried: those of QuantConnect's own MCP
/// server, then those of its image's documentation.
const VARIABLES: [(&str, &str); 2] = [
    ("QUANTCONNECT_USER_ID", "QUANTCONNECT_API_TOKEN"),
    ("QC_MCP_USER_ID", "QC_MCP_API_TOKEN"),
];

/// Whether a variable holds a user id.
pub(crate) fn is_user_id(variable: &str) -> bool {
    VARIABLES.iter().any(|(user_id, _)| *user_id == variable)
}

/// Larger than any such file.
const MAX_FILE: u64 = 64 * 1024;

/// A user id and its API token.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The number shown on the account page. Not secret.
    pub user_id: String,
    /// The token shown beside it, once.
    pub api_token: SecretString,
}

/// Why there are no credentials. No message carries a token.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither the environment nor a file has any.
    #[error(
        "no QuantConnect credentials: set QUANTCONNECT_USER_ID and QUANTCONNECT_API_TOKEN \
         (or QC_MCP_USER_ID and QC_MCP_API_TOKEN), or name a credentials file"
    )]
    Missing,
    /// Only one of a pair of variables is set.
    #[error("{present} is set but {absent} is not; set both")]
    Half {
        /// The variable that is set.
        present: &'static str,
        /// The variable that is not.
        absent: &'static str,
    },
    /// A value is malformed.
    #[error("{origin}: {problem}")]
    Malformed {
        /// The variable or the file.
        origin: String,
        /// The problem.
        problem: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the credentials file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Other users can read the file.
    #[error(
        "the credentials file {0} can be read by other users (mode {mode:03o}); run: chmod 600 {0}",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Credentials {
    /// From the environment, or else from `file` if given.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if there are none, or they cannot be used.
    pub fn load(file: Option<&Path>) -> Result<Self, CredentialsError> {
        Self::load_with(|name| std::env::var(name).ok(), file)
    }

    /// From a file of the form `{"user-id": "1", "api-token": "…"}`, as QuantConnect's `lean login`
    /// writes it to `~/.lean/credentials`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if it cannot be read, other users can read it, or it has another form.
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        let unreadable = |source| CredentialsError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Mode and content of the same open file, so that a swap in between cannot evade the check.
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if is_exposed(path, mode) {
            return Err(CredentialsError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.take(MAX_FILE)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let origin = || path.display().to_string();
        // The parser's own message could quote the token.
        let stored: Stored =
            serde_json::from_str(&text).map_err(|_| CredentialsError::Malformed {
                origin: origin(),
                problem: "expected a JSON object with \"user-id\" and \"api-token\"",
            })?;
        let user_id = match stored.user_id {
            UserId::Number(number) => number.to_string(),
            UserId::Text(text) => text,
        };
        Self::checked(&user_id, &stored.api_token, &origin(), &origin())
    }

    /// The variables that QuantConnect's own MCP server reads, for a child's environment.
    #[must_use]
    pub fn variables(&self) -> [(String, SecretString); 2] {
        let [(user_id, api_token), _] = VARIABLES;
        [
            (
                user_id.to_owned(),
                SecretString::from(self.user_id.as_str()),
            ),
            (api_token.to_owned(), self.api_token.clone()),
        ]
    }

    fn load_with(
        variable: impl Fn(&'static str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Self, CredentialsError> {
        // In a container's configuration, an empty variable means "unset".
        let set = |name| variable(name).filter(|value| !value.trim().is_empty());
        for (user_id, api_token) in VARIABLES {
            return match (set(user_id), set(api_token)) {
                (None, None) => continue,
                (Some(user), Some(token)) => Self::checked(&user, &token, user_id, api_token),
                (Some(_), None) => Err(CredentialsError::Half {
                    present: user_id,
                    absent: api_token,
                }),
                (None, Some(_)) => Err(CredentialsError::Half {
                    present: api_token,
                    absent: user_id,
                }),
            };
        }
        file.map_or(Err(CredentialsError::Missing), Self::from_file)
    }

    fn checked(
        user_id: &str,
        api_token: &str,
        user_origin: &str,
        token_origin: &str,
    ) -> Result<Self, CredentialsError> {
        let malformed = |origin: &str, problem| CredentialsError::Malformed {
            origin: origin.to_owned(),
            problem,
        };
        let (user_id, api_token) = (user_id.trim(), api_token.trim());
        if user_id.is_empty() || !user_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed(user_origin, "the user id must be digits only"));
        }
        if api_token.is_empty() || !api_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed(
                token_origin,
                "the API token is empty or holds a space or a control character",
            ));
        }
        Ok(Self {
            user_id: user_id.to_owned(),
            api_token: SecretString::from(api_token),
        })
    }
}

/// The file's format. It contains the token, so it has no `Debug`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stored {
    user_id: UserId,
    api_token: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UserId {
    Number(u64),
    Text(String),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    fn from(variables: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let find = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some((*value).to_owned())
        };
        Credentials::load_with(find, None)
    }

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn both_pairs_of_variables_are_read_and_the_first_wins() {
        let official = [
            ("QUANTCONNECT_USER_ID", " 7 "),
            ("QUANTCONNECT_API_TOKEN", "one\n"),
        ];
        let image = [("QC_MCP_USER_ID", "8"), ("QC_MCP_API_TOKEN", "two")];
        let found = from(&official).unwrap();
        assert_eq!(
            (found.user_id.as_str(), found.api_token.expose_secret()),
            ("7", "one")
        );
        assert_eq!(from(&image).unwrap().user_id, "8");
        assert_eq!(from(&[official, image].concat()).unwrap().user_id, "7");
        let unset = [("QUANTCONNECT_USER_ID", ""), ("QUANTCONNECT_API_TOKEN", "")];
        assert_eq!(from(&[unset, image].concat()).unwrap().user_id, "8");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let shown = |variables: &[(&str, &str)]| from(variables).unwrap_err().to_string();
        assert!(shown(&[]).contains("QUANTCONNECT_USER_ID"));
        assert_eq!(
            shown(&[("QC_MCP_API_TOKEN", "hush")]),
            "QC_MCP_API_TOKEN is set but QC_MCP_USER_ID is not; set both"
        );
        for (user, token) in [("me@x.test", "hush"), ("7", "hush hush"), ("-7", "hush")] {
            let shown = shown(&[("QC_MCP_USER_ID", user), ("QC_MCP_API_TOKEN", token)]);
            assert!(shown.starts_with("QC_MCP_"), "{shown}");
            assert!(!shown.contains("hush hush"), "{shown}");
        }
    }

    #[test]
    fn a_private_file_is_read_and_one_that_others_can_read_is_not() {
        for text in [
            r#"{"user-id": "7", "api-token": "hush"}"#,
            r#"{"user-id": 7, "api-token": "hush", "more": true}"#,
        ] {
            let (_keep, path) = file(text, 0o600);
            let found = Credentials::load_with(|_| None, Some(&path)).unwrap();
            assert_eq!(
                (found.user_id.as_str(), found.api_token.expose_secret()),
                ("7", "hush")
            );
        }
        for mode in [0o640, 0o604, 0o666] {
            let (_keep, path) = file(r#"{"user-id": "7", "api-token": "hush"}"#, mode);
            let shown = Credentials::from_file(&path).unwrap_err().to_string();
            assert!(shown.contains("chmod 600"), "{shown}");
        }
        let shown = Credentials::from_file(Path::new("/nonexistent/x"))
            .unwrap_err()
            .to_string();
        assert!(shown.contains("/nonexistent/x"), "{shown}");
    }

    #[test]
    fn nothing_shows_the_token() {
        let found = from(&[("QC_MCP_USER_ID", "8"), ("QC_MCP_API_TOKEN", "hush")]).unwrap();
        let shown = format!("{found:?} {:?}", found.variables());
        assert!(shown.contains('8') && !shown.contains("hush"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused_without_quoting_it(
            text in r#"(\{"user-id": ?("?[0-9]{0,3}"?)?,? ?("api-token": ?"hush[ -~]{0,8}"?)?\}?)|hush.*"#,
        ) {
            let (_keep, path) = file(&text, 0o600);
            if let Err(error) = Credentials::from_file(&path) {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains("hush"), "{}", shown);
            }
        }
    }
}
