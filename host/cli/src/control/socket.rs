//! The socket's file: its location and permissions.
//!
//! Invariant: only the host's own user and root can replace the socket; otherwise clients would
//! send their requests to a stranger.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Group, geteuid};
use tokio::net::UnixListener;

use super::presence::{Presence, PresenceFiles};
use crate::config::{self, Config};

/// The group of a socket outside of the data folder, unless another is configured.
const GROUP: &str = "qchost";

/// Creates the socket, and announces it. From then on clients can connect, even if they get no
/// reply yet.
pub async fn listen(config: &Config) -> Result<(UnixListener, PresenceFiles)> {
    let path = config.socket()?;
    let group = match &config.control.socket {
        // The lock on the data folder ensures that no other host uses this socket.
        None => None,
        Some(_) => {
            check_folder(path.parent().unwrap_or(Path::new("/")))?;
            if let Ok(other) = tokio::net::UnixStream::connect(&path).await {
                let process = other.peer_cred().ok().and_then(|it| it.pid());
                let process =
                    process.map_or_else(String::new, |pid| format!(" (process id {pid})"));
                bail!(
                    "another host{process} listens at {} and uses another data folder; give each its own `control.socket`",
                    path.display()
                );
            }
            Some(find_group(
                config.control.group.as_deref().unwrap_or(GROUP),
            )?)
        }
    };
    remove_former(&path)?;
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    let mode = match &group {
        None => 0o600,
        Some(group) => {
            std::os::unix::fs::chown(&path, None, Some(group.gid.as_raw())).with_context(|| {
                format!(
                    "cannot give {} to the group `{1}`; the user that runs the host must be in it: usermod --append --groups {1} USER",
                    path.display(),
                    group.name
                )
            })?;
            0o660
        }
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    let group = group.map(|group| group.gid.as_raw());
    let hosts = config::own_hosts();
    let announced = Presence::of(config)?.announce(group, hosts.as_deref());
    Ok((listener, announced))
}

fn check_folder(folder: &Path) -> Result<()> {
    let found = std::fs::metadata(folder).with_context(|| {
        format!(
            "control.socket: there is no folder {0}; make it: install --directory --mode 755 {0}",
            folder.display()
        )
    })?;
    ensure!(
        found.mode() & 0o022 == 0,
        "control.socket: others can write the folder {0} (mode {1:o}), and could put a socket of their own in place of the host's; \
         run: chmod go-w {0}",
        folder.display(),
        found.mode() & 0o7777
    );
    let owner = found.uid();
    ensure!(
        owner == 0 || owner == geteuid().as_raw(),
        "control.socket: the folder {} belongs to uid {owner}, who could put a socket of their own in place of the host's; \
         use one that belongs to uid {}",
        folder.display(),
        geteuid()
    );
    Ok(())
}

fn find_group(name: &str) -> Result<Group> {
    Group::from_name(name)
        .with_context(|| format!("cannot look for the group `{name}`"))?
        .with_context(|| {
            format!("control.group: there is no group `{name}`; make it: groupadd --system {name}")
        })
}

/// Removes the socket of a killed host. Anything else is not ours to remove.
fn remove_former(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            let owner = found.uid();
            ensure!(
                owner == 0 || owner == geteuid().as_raw(),
                "{0} is a socket of uid {owner}, at which nothing listens, and this host runs as uid {1}; remove it (rm {0}), or \
                 configure another `control.socket`",
                path.display(),
                geteuid()
            );
            std::fs::remove_file(path)
                .with_context(|| format!("cannot take away the former {}", path.display()))
        }
        Ok(_) => bail!(
            "{} is there and is no socket; take it away, or configure another `control.socket`",
            path.display()
        ),
        Err(_) => Ok(()),
    }
}
