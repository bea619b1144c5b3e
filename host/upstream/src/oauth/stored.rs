//! The tokens of one login, and the file that keeps them.
//!
//! Invariants: the file has mode 0600 in a folder of mode 0700, is replaced as a whole, and is read only if no other
//! user can read it. A login that was replaced or ended never writes it again. No value of a token is in an error.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use qchost_secrets::{SecretError, read_secret};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// How long a token is assumed to be valid if the server does not say: as long as those of QuantConnect's remote server
/// were seen to be.
pub(super) const ASSUMED_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// Maximum time before its end at which a token is renewed.
const MAX_RENEWAL_LEAD: Duration = Duration::from_secs(60);

/// Maximum time before its end at which the end of an authorization is announced.
const MAX_NOTICE: Duration = Duration::from_secs(15 * 60);

/// The tokens of a login, with what is needed to renew them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tokens {
    /// When a person logged in. Identifies the login; a renewal keeps it.
    pub(super) login: Timestamp,
    /// The MCP server that they are for, and that alone gets them.
    pub(super) server: String,
    /// The authorization server that issued them.
    pub(super) issuer: Option<String>,
    /// How the host identified itself there.
    pub(super) client_id: String,
    #[serde(with = "exposed", default, skip_serializing_if = "Option::is_none")]
    pub(super) client_secret: Option<SecretString>,
    #[serde(with = "exposed")]
    pub(super) access_token: Option<SecretString>,
    #[serde(with = "exposed", default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<SecretString>,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// When the access token was issued.
    pub(super) obtained: Timestamp,
    /// When it ends.
    pub(super) ends: Timestamp,
    /// Whether that is an assumption.
    #[serde(default)]
    pub(super) end_assumed: bool,
    /// Whether it was announced that the end is near.
    #[serde(default)]
    pub(super) expiring_announced: bool,
    /// Whether it was announced that it ended.
    #[serde(default)]
    pub(super) end_announced: bool,
}

impl Tokens {
    /// The end of a token that was issued now, and whether it is assumed.
    pub(super) fn end(obtained: Timestamp, lifetime: Option<u64>) -> (Timestamp, bool) {
        let (seconds, assumed) = match lifetime {
            Some(seconds) => (seconds, false),
            None => (ASSUMED_LIFETIME.as_secs(), true),
        };
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let ends = obtained.checked_add(SignedDuration::from_secs(seconds));
        (ends.unwrap_or(Timestamp::MAX), assumed)
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends
    }

    /// Whether it should be renewed.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.before_end(MAX_RENEWAL_LEAD, 2)
    }

    /// Whether its end is near.
    pub(super) fn is_ending(&self, now: Timestamp) -> bool {
        now >= self.before_end(MAX_NOTICE, 4)
    }

    /// The instant `lead` before the end, at most a part of the lifetime before it.
    fn before_end(&self, lead: Duration, part: i32) -> Timestamp {
        let lifetime = self.ends.duration_since(self.obtained);
        let lead = SignedDuration::try_from(lead).unwrap_or(SignedDuration::ZERO);
        let lead = lead.min(lifetime.checked_div(part).unwrap_or(lifetime));
        self.ends.checked_sub(lead).unwrap_or(self.ends)
    }
}

/// Secrets in the form of the file.
mod exposed {
    use secrecy::{ExposeSecret as _, SecretString};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        secret: &Option<SecretString>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let secret = secret.as_ref().map(|secret| secret.expose_secret());
        secret.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SecretString>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(SecretString::from))
    }
}

/// The file that keeps the tokens of an account. Its functions block.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    /// The login that may write it.
    current: Mutex<Option<Timestamp>>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            current: Mutex::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens in it, if it exists; their login may write it from now on.
    pub(super) fn read(&self) -> Result<Option<Tokens>, String> {
        let mut current = self.current.lock();
        let text = match read_secret(&self.path) {
            Ok(text) => text,
            Err(SecretError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                *current = None;
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        // The parser's own message could quote a token.
        let tokens: Tokens = serde_json::from_str(text.expose_secret()).map_err(|_| {
            format!(
                "{} is no file of tokens as the host writes it; log in again",
                self.path.display()
            )
        })?;
        *current = Some(tokens.login);
        Ok(Some(tokens))
    }

    /// Replaces what is in it by a new login.
    pub(super) fn replace(&self, tokens: &Tokens) -> io::Result<()> {
        let mut current = self.current.lock();
        self.write(tokens)?;
        *current = Some(tokens.login);
        Ok(())
    }

    /// Stores renewed tokens, unless another login came in between.
    pub(super) fn update(&self, tokens: &Tokens) -> io::Result<()> {
        let current = self.current.lock();
        match *current == Some(tokens.login) {
            true => self.write(tokens),
            false => Ok(()),
        }
    }

    /// From now on no login writes it that it has now: another server has the file.
    pub(super) fn disown(&self) {
        *self.current.lock() = None;
    }

    /// Removes it; returns whether it existed.
    pub(super) fn remove(&self) -> io::Result<bool> {
        let mut current = self.current.lock();
        *current = None;
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&self, tokens: &Tokens) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let text = SecretString::from(serde_json::to_string(tokens)?);
        // Made with mode 0600.
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        draft.write_all(text.expose_secret().as_bytes())?;
        draft.as_file().sync_all()?;
        draft.persist(&self.path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn tokens(obtained: i64, lifetime: Option<u64>) -> Tokens {
        let obtained = Timestamp::from_second(obtained).unwrap();
        let (ends, end_assumed) = Tokens::end(obtained, lifetime);
        Tokens {
            login: obtained,
            server: "https://mcp.test/mcp".to_owned(),
            issuer: Some("https://mcp.test".to_owned()),
            client_id: "client".to_owned(),
            client_secret: None,
            access_token: Some("hush-access".into()),
            refresh_token: Some("hush-refresh".into()),
            scopes: Vec::new(),
            obtained,
            ends,
            end_assumed,
            expiring_announced: false,
            end_announced: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn without_a_lifetime_two_hours_are_assumed() {
        let assumed = tokens(0, None);
        assert_eq!((assumed.ends, assumed.end_assumed), (at(7_200), true));
        let told = tokens(0, Some(60));
        assert_eq!((told.ends, told.end_assumed), (at(60), false));
        assert_eq!(tokens(0, Some(u64::MAX)).ends, Timestamp::MAX);
    }

    #[test]
    fn a_short_lived_token_is_neither_due_nor_ending_from_its_start() {
        let long = tokens(0, Some(7_200));
        assert!(!long.is_ending(at(6_299)) && long.is_ending(at(6_300)));
        assert!(!long.is_due(at(7_139)) && long.is_due(at(7_140)));
        assert!(!long.is_over(at(7_199)) && long.is_over(at(7_200)));
        let short = tokens(0, Some(8));
        assert!(!short.is_due(at(3)) && short.is_due(at(4)));
        assert!(!short.is_ending(at(5)) && short.is_ending(at(6)));
    }

    #[test]
    fn the_file_is_private_and_read_back_and_one_that_others_can_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorizations/research.json");
        let file = TokenFile::new(path.clone());
        assert!(file.read().unwrap().is_none());
        file.replace(&tokens(1, None)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let found = file.read().unwrap().unwrap();
        assert_eq!(found.access_token.unwrap().expose_secret(), "hush-access");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(file.read().unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, r#"{"access-token": "hush"}"#).unwrap();
        let why = file.read().unwrap_err();
        assert!(
            why.contains("log in again") && !why.contains("hush"),
            "{why}"
        );
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused_without_quoting_it(
            text in r#"(\{("(login|obtained|ends)": ?"2026-[0-9T:Z-]{0,16}",? ?){0,3}("access-token": ?"hush[ -~]{0,8}"?)?\}?)|hush.*"#,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let file = TokenFile::new(folder.path().join("research.json"));
            fs::write(file.path(), &text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
            if let Err(why) = file.read() {
                prop_assert!(!why.contains("hush"), "{}", why);
            }
        }
    }

    #[test]
    fn a_login_whose_file_is_another_server_s_by_now_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("research.json");
        let (former, other) = (TokenFile::new(path.clone()), TokenFile::new(path));
        let (first, second) = (tokens(1, None), tokens(2, None));
        former.replace(&first).unwrap();
        former.disown();
        other.replace(&second).unwrap();
        former.update(&first).unwrap();
        assert_eq!(other.read().unwrap().unwrap().login, second.login);
    }

    #[test]
    fn a_login_that_was_replaced_or_ended_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::new(folder.path().join("research.json"));
        let (first, second) = (tokens(1, None), tokens(2, None));
        file.replace(&first).unwrap();
        file.replace(&second).unwrap();
        file.update(&first).unwrap();
        assert_eq!(file.read().unwrap().unwrap().login, second.login);
        assert!(file.remove().unwrap());
        file.update(&second).unwrap();
        assert!(!file.path().exists());
        assert!(!file.remove().unwrap());
    }
}
