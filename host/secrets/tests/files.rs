//! Secrets in files and environment variables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use qchost_secrets::{SecretError, Secrets, Source, read_secret};
use secrecy::ExposeSecret as _;

fn write(folder: &Path, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = folder.join("pin");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

async fn read(secrets: &Secrets, source: Source) -> Result<String, SecretError> {
    let secret = secrets.read(&source).await?;
    Ok(secret.expose_secret().to_owned())
}

#[tokio::test]
async fn a_file_is_read_if_no_other_user_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::default();
    for mode in [0o600, 0o400, 0o700] {
        let file = write(folder.path(), "hunter2\n", mode);
        assert_eq!(read(&secrets, Source::File(file)).await.unwrap(), "hunter2");
    }
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601, 0o666] {
        let file = write(folder.path(), "hunter2\n", mode);
        let error = read(&secrets, Source::File(file.clone()))
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: said, .. } if said == mode));
        let expected = format!("chmod 600 {}", file.display());
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn a_link_is_judged_by_what_it_points_to() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(write(folder.path(), "hunter2", 0o600), &link).unwrap();
    assert_eq!(read_secret(&link).unwrap().expose_secret(), "hunter2");
    write(folder.path(), "hunter2", 0o644);
    assert!(matches!(
        read_secret(&link),
        Err(SecretError::Exposed { .. })
    ));
}

#[test]
fn only_line_breaks_at_the_end_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for (content, secret) in [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("\na b \n\n", "\na b "),
        ("-----BEGIN\nAAAA\n-----END\n", "-----BEGIN\nAAAA\n-----END"),
    ] {
        let path = write(folder.path(), content, 0o600);
        assert_eq!(read_secret(&path).unwrap().expose_secret(), secret);
    }
}

#[test]
fn what_is_no_secret_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let longest = vec![b'x'; 64 * 1024];
    let path = write(folder.path(), &longest, 0o600);
    assert_eq!(
        read_secret(&path).unwrap().expose_secret().len(),
        longest.len()
    );
    let too_long = [longest.as_slice(), b"x"].concat();
    for (content, expected) in [
        (too_long.as_slice(), "more than 65536 bytes"),
        (b"hunter2\xff", "no UTF-8"),
        (b"", "is empty"),
        (b"\n\r\n", "is empty"),
    ] {
        let error = read_secret(&write(folder.path(), content, 0o600)).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected) && shown.contains("pin"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(matches!(
        read_secret(folder.path()),
        Err(SecretError::NoFile { .. })
    ));
    assert!(matches!(
        read_secret(Path::new("/dev/null")),
        Err(SecretError::NoFile { .. })
    ));
    assert!(matches!(
        read_secret(&folder.path().join("none")),
        Err(SecretError::Read { .. })
    ));
}

#[test]
fn a_pipe_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&pipe)
        .status();
    assert!(made.unwrap().success());
    assert!(matches!(
        read_secret(&pipe),
        Err(SecretError::NoFile { .. })
    ));
}

#[tokio::test]
async fn a_changed_file_is_read_without_a_restart_and_both_values_are_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::default();
    for value in ["hunter2", "hunter3"] {
        let file = write(folder.path(), value, 0o600);
        assert_eq!(read(&secrets, Source::File(file)).await.unwrap(), value);
    }
    assert_eq!(
        secrets.clone().redactor().clean("hunter2 hunter3 hunter4"),
        "[redacted] [redacted] hunter4"
    );
}

#[tokio::test]
async fn a_variable_is_read_if_it_is_set() {
    let secrets = Secrets::default();
    // Cargo sets it for tests.
    let env = "CARGO_MANIFEST_DIR".to_owned();
    let expected = std::env::var(&env).unwrap();
    assert_eq!(read(&secrets, Source::Env(env)).await.unwrap(), expected);
    assert_eq!(secrets.redactor().clean(&expected), "[redacted]");
    let env = "QCHOST_NO_SUCH_VARIABLE".to_owned();
    let error = read(&secrets, Source::Env(env)).await.unwrap_err();
    assert!(matches!(error, SecretError::Unset { .. }));
    assert!(
        error.to_string().contains("QCHOST_NO_SUCH_VARIABLE"),
        "{error}"
    );
}
