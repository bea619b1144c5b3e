//! Credentials that systemd gives a service, as files in a folder for this service alone.
//!
//! Invariant: a file is taken for such a credential only if it is in the folder that systemd named to this process.

use std::path::{Path, PathBuf};

/// The variable in which systemd names the folder.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// How a path in a configuration begins that is in the folder.
const PREFIX: &str = "$CREDENTIALS_DIRECTORY";
/// Permission bits of users other than the owner.
const OTHERS: u32 = 0o077;
/// The same without the group's right to read.
const OTHERS_OF_A_CREDENTIAL: u32 = 0o037;

/// The path that a configuration in `folder` means: in the folder of credentials if it begins with
/// `$CREDENTIALS_DIRECTORY`, and otherwise relative to the configuration.
#[must_use]
pub fn resolve(folder: &Path, path: &Path) -> PathBuf {
    resolve_in(directory().as_deref(), folder, path)
}

fn resolve_in(credentials: Option<&Path>, folder: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix(PREFIX), credentials) {
        (Ok(name), Some(credentials)) => credentials.join(name),
        // Reading it fails, and the error has the variable's name in it.
        _ => folder.join(path),
    }
}

/// Whether users other than the owner have access to a secret in this file of these permissions.
///
/// systemd lets a service that is not root's read its credentials by an access list, and the rights in that show as
/// those of the group.
#[must_use]
pub fn is_exposed(path: &Path, mode: u32) -> bool {
    is_exposed_in(directory().as_deref(), path, mode)
}

fn is_exposed_in(credentials: Option<&Path>, path: &Path, mode: u32) -> bool {
    let is_credential = credentials.is_some() && path.parent() == credentials;
    let others = if is_credential {
        OTHERS_OF_A_CREDENTIAL
    } else {
        OTHERS
    };
    mode & others != 0
}

fn directory() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os(VARIABLE)?);
    directory.is_absolute().then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_folder_of_credentials_is_found_there() {
        let (folder, credentials) = (Path::new("/etc/qchost"), Path::new("/run/credentials/q"));
        for (path, set, unset) in [
            (
                "$CREDENTIALS_DIRECTORY/token",
                "/run/credentials/q/token",
                "/etc/qchost/$CREDENTIALS_DIRECTORY/token",
            ),
            ("token", "/etc/qchost/token", "/etc/qchost/token"),
            ("/srv/token", "/srv/token", "/srv/token"),
        ] {
            let path = Path::new(path);
            assert_eq!(resolve_in(Some(credentials), folder, path), Path::new(set));
            assert_eq!(resolve_in(None, folder, path), Path::new(unset));
        }
    }

    #[test]
    fn a_group_may_read_nothing_but_a_credential() {
        let credentials = Some(Path::new("/run/credentials/q"));
        let token = Path::new("/run/credentials/q/token");
        for (credentials, path, mode, exposed) in [
            (credentials, token, 0o400, false),
            (credentials, token, 0o440, false),
            (credentials, token, 0o444, true),
            (credentials, token, 0o460, true),
            (None, token, 0o440, true),
            (
                credentials,
                Path::new("/run/credentials/q/../x"),
                0o440,
                true,
            ),
            (credentials, Path::new("/etc/qchost/token"), 0o440, true),
            (credentials, Path::new("/etc/qchost/token"), 0o600, false),
        ] {
            assert_eq!(
                is_exposed_in(credentials, path, mode),
                exposed,
                "{path:?} {mode:o}"
            );
        }
    }
}
