//! `host.json`: announces a running host to commands, in its data folder, next to a socket that is open to a group, and
//! among the hosts of its user.
//!
//! Invariants: a file is trusted only where no user but its owner and root could have put it, and the process that listens
//! at its socket must be that owner's or root's. A file left by a killed host is harmless: no process listens at its socket.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::data_folder::private_folder;

/// The file's name in a data folder.
const FILE: &str = "host.json";
/// Maximum bytes of a file.
const MAX_BYTES: u64 = 64 << 10;

/// Announcement of a running host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Presence {
    /// Its process id.
    pub pid: u32,
    /// Its control socket; absolute.
    pub socket: PathBuf,
    /// The configuration it was started with, with all links resolved.
    pub configuration: PathBuf,
    /// Its data folder; absolute.
    pub data: PathBuf,
    /// Its version.
    pub version: String,
}

/// The files of a running host; removed when dropped.
#[derive(Debug)]
pub struct PresenceFiles(Vec<PathBuf>);

impl Presence {
    /// The announcement of this process as the host of a configuration.
    pub fn of(config: &Config) -> Result<Self> {
        Ok(Self {
            pid: std::process::id(),
            socket: std::path::absolute(config.socket()?)?,
            configuration: config.path.clone(),
            data: std::path::absolute(config.data()?)?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The file of the host that uses a data folder.
    pub fn in_data(data: &Path) -> PathBuf {
        data.join(FILE)
    }

    /// The file next to a socket that is open to a group.
    pub fn beside(socket: &Path) -> PathBuf {
        socket.with_extension("json")
    }

    /// The file among the hosts of a user: one per data folder, so that those of killed hosts do not pile up.
    fn among(&self, hosts: &Path) -> PathBuf {
        let digest = Sha256::digest(self.data.as_os_str().as_bytes());
        let digits = hex::encode(digest);
        let short: String = digits.chars().take(16).collect();
        hosts.join(format!("{short}.json"))
    }

    /// Writes the files; the one next to the socket gets the group of the socket, if it has one. A host whose files cannot
    /// be written (a full disk) serves nevertheless, and is found by its configuration. `hosts` is the folder for the hosts
    /// of this user.
    pub fn announce(&self, group: Option<u32>, hosts: Option<&Path>) -> PresenceFiles {
        let mut files = vec![(Self::in_data(&self.data), None)];
        if let Some(group) = group {
            files.push((Self::beside(&self.socket), Some(group)));
        }
        let mut written = Vec::new();
        for (path, group) in files {
            match self.write(&path, group) {
                Ok(()) => written.push(path),
                Err(error) => tracing::warn!(
                    target: "host",
                    "{} cannot be written, so commands find this host by its configuration only: {error:#}",
                    path.display()
                ),
            }
        }
        // A service may have no writable folder of its user.
        if let Some(hosts) = hosts
            && private_folder(hosts).is_ok()
        {
            let path = self.among(hosts);
            if self.write(&path, None).is_ok() {
                written.push(path);
            }
        }
        PresenceFiles(written)
    }

    fn write(&self, path: &Path, group: Option<u32>) -> Result<()> {
        let folder = path.parent().context("it has no folder")?;
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        draft.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        if let Some(group) = group {
            std::os::unix::fs::fchown(draft.as_file(), None, Some(group))?;
            draft
                .as_file()
                .set_permissions(Permissions::from_mode(0o640))?;
        }
        draft.persist(path)?;
        Ok(())
    }

    /// Reads a file, and returns its owner; `None` if it cannot be read or trusted.
    pub fn read(path: &Path) -> Option<(Self, u32)> {
        // Does not block on a FIFO, and does not follow a link to another place.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(path)
            .ok()?;
        let found = file.metadata().ok()?;
        let owner = found.uid();
        let folder = std::fs::metadata(path.parent()?).ok()?;
        let trusted = [0, owner, geteuid().as_raw()];
        let sound = found.is_file()
            && found.len() <= MAX_BYTES
            && found.mode() & 0o022 == 0
            && folder.mode() & 0o022 == 0
            && trusted.contains(&folder.uid());
        if !sound {
            return None;
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some((serde_json::from_str(&text).ok()?, owner))
    }
}

impl Drop for PresenceFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // The next host may have written its own already.
            let ours = Presence::read(path).is_some_and(|(it, _)| it.pid == std::process::id());
            if ours {
                drop(std::fs::remove_file(path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(folder: &Path) -> Presence {
        Presence {
            pid: std::process::id(),
            socket: folder.join("control.sock"),
            configuration: folder.join("qchost.toml"),
            data: folder.to_owned(),
            version: "0.0.0".to_owned(),
        }
    }

    #[test]
    fn a_file_is_read_back_is_the_owners_alone_and_goes_with_its_host() {
        let folder = tempfile::tempdir().unwrap();
        let written = presence(folder.path());
        let announced = written.announce(None, None);
        let path = Presence::in_data(folder.path());
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let (read, owner) = Presence::read(&path).unwrap();
        assert_eq!((read, owner), (written.clone(), geteuid().as_raw()));
        // A file that another host wrote meanwhile stays.
        let other = Presence { pid: 1, ..written };
        other.write(&path, None).unwrap();
        drop(announced);
        assert_eq!(Presence::read(&path).unwrap().0, other);
        drop(presence(folder.path()).announce(None, None));
        assert!(!path.exists());
    }

    #[test]
    fn the_hosts_of_a_user_are_told_apart_by_their_data_folders_and_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("state/running");
        let files = || {
            let entries = std::fs::read_dir(&hosts).unwrap();
            entries.map(|it| it.unwrap().path()).collect::<Vec<_>>()
        };
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        for data in [&one, &other] {
            std::fs::create_dir(data).unwrap();
        }
        // As a killed host leaves it.
        std::mem::forget(presence(&one).announce(None, Some(&hosts)));
        let first = presence(&one).announce(None, Some(&hosts));
        let second = presence(&other).announce(None, Some(&hosts));
        assert_eq!(files().len(), 2);
        drop(second);
        let left = files();
        assert_eq!(Presence::read(&left[0]).unwrap().0, presence(&one));
        drop(first);
        assert!(files().is_empty());
    }

    #[test]
    fn a_file_that_another_could_have_put_there_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Presence::in_data(folder.path());
        let _announced = presence(folder.path()).announce(None, None);
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (file, at, wrong, right) in [
            (true, &path, 0o622, 0o600),
            (false, &folder.path().to_owned(), 0o777, 0o700),
        ] {
            mode(at, wrong);
            assert!(Presence::read(&path).is_none(), "{file}");
            mode(at, right);
            assert!(Presence::read(&path).is_some(), "{file}");
        }
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Presence::read(&link).is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(Presence::read(&path).is_none());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Presence::read(&path).is_none());
    }
}
