//! What a data folder has by name, and the permissions it must have.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use qchost_gate::HALT_FILE;
use qchost_ledger::Ledger;

/// The database's name in a data folder.
pub const DATABASE: &str = "state.db";

/// The absolute path of the file `halt` in a data folder, for messages.
pub fn halt_file(data: &Path) -> String {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    data.join(HALT_FILE).display().to_string()
}

/// Refuses a data folder of a newer version, before a lock or a file is made in it. The layout of the database is the version
/// of the whole folder.
pub fn check_version(data: &Path) -> Result<()> {
    Ok(Ledger::check_version(&data.join(DATABASE))?)
}

/// Creates a folder, and those above it, that only this user can open; an existing one stays as it is.
pub fn make_private(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Creates a folder that only this user can read, or checks that an existing one is.
pub fn private_folder(folder: &Path) -> Result<()> {
    make_private(folder)?;
    let found = std::fs::metadata(folder)?;
    let (owner, us) = (found.uid(), nix::unistd::geteuid().as_raw());
    ensure!(
        owner == us,
        "{0} belongs to the user {owner}, who could change what is in it, and this is the user {us}; name a folder of \
         your own as `data`, or run: chown -R {us} {0}",
        folder.display()
    );
    must_be_closed(folder)
}

/// Checks that other users cannot open a folder.
pub fn must_be_closed(folder: &Path) -> Result<()> {
    let mode = std::fs::metadata(folder)?.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "{0} is open to other users (mode {mode:o}), and holds the host's key and socket; run: chmod 700 {0}",
        folder.display()
    );
    Ok(())
}
