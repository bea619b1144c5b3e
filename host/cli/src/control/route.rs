//! How a command finds the host that it is for.
//!
//! The places are tried in this order: the socket that was named, the data folder that was named, what the configuration
//! names, `/run/qchost`, the hosts of this user, and the usual data folders. A configuration that is broken, changed, missing or unreadable keeps
//! no operator from a host that runs: what can be read of it counts, and a host elsewhere is taken if it was started with
//! the same configuration, or if the configuration says nothing and it is the only one.
//!
//! Invariants: a host that was named is the only one that is asked. Nothing is asked of a process that is not the user's
//! who owns the socket, or root's.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result, anyhow, bail, ensure};
use nix::unistd::geteuid;
use tokio::net::UnixStream;

use super::presence::Presence;
use crate::config::{self, Config};
use crate::output::words;

/// Where hosts whose socket is open to a group are found.
const RUN: &str = "/run/qchost";

/// How long a command waits in line to connect to a host to which too many others do.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(10);

/// What a command was told of the host that it is for.
pub struct Route {
    /// The configuration, or why it cannot be used.
    config: Result<Config>,
    /// Its file, as it was named.
    file: PathBuf,
    /// Its file from the root on, with links followed as far as it is there.
    path: PathBuf,
    /// The socket, if it was named.
    socket: Option<PathBuf>,
    /// The data folder, if it was named.
    data: Option<PathBuf>,
}

/// A place where a host may listen.
#[derive(Debug, Clone)]
struct Place {
    socket: PathBuf,
    /// The user that a file names it for; if none does, the socket's owner.
    owner: Option<u32>,
    /// The configuration of the host, if a file says it.
    configuration: Option<PathBuf>,
    data: Option<PathBuf>,
}

/// A host that runs.
pub struct Found {
    pub stream: UnixStream,
    /// Its data folder, as far as that is known.
    pub data: Option<PathBuf>,
}

/// What trying a place came to.
enum Tried {
    Connected(UnixStream),
    Nobody,
    Closed,
}

impl Route {
    /// A route by the command line's options.
    pub fn new(file: &Path, data: Option<PathBuf>, socket: Option<PathBuf>) -> Self {
        let mut config = Config::load(file);
        if let (Ok(config), Some(data)) = (&mut config, &data) {
            config.data = Some(data.clone());
        }
        let path = match &config {
            Ok(config) => config.path.clone(),
            Err(_) => leads_to(file),
        };
        Self {
            config,
            file: file.to_owned(),
            path,
            socket,
            data,
        }
    }

    /// The same configuration for a host that has another folder for all that it makes, where none runs.
    pub fn apart(&self, folder: &Path) -> Self {
        let config = self.config().map(|config| {
            let mut config = config.clone();
            config.data = Some(folder.to_owned());
            config.cache = None;
            config.control.socket = None;
            config
        });
        Self {
            config,
            file: self.file.clone(),
            path: self.path.clone(),
            socket: None,
            data: Some(folder.to_owned()),
        }
    }

    /// The configuration, or why it cannot be used.
    pub fn config(&self) -> Result<&Config> {
        self.config
            .as_ref()
            .map_err(|error| anyhow!("{}", words(error)))
    }

    /// Where the configuration is, from the root on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a socket was named, so that no host in this process stands in for the one that listens there.
    pub fn names_socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The data folder of the host, as far as it is known without asking: that of the host whose socket was named, the one
    /// that was named, or the configured one.
    pub fn data(&self) -> Option<PathBuf> {
        if let Some(socket) = &self.socket {
            return Place::named(socket).data;
        }
        if let Some(data) = &self.data {
            return Some(data.clone());
        }
        match &self.config {
            Ok(config) => config.data().ok(),
            Err(_) => Config::to_reach(&self.file)?.data().ok(),
        }
    }

    /// Connects to the host, if one runs.
    pub async fn connect(&self) -> Result<Option<Found>> {
        let mut closed = None;
        for place in self.named() {
            match place.connect().await? {
                Tried::Connected(stream) => {
                    let data = place.data.or_else(|| self.data());
                    return Ok(Some(Found { stream, data }));
                }
                Tried::Nobody => {}
                Tried::Closed => closed = closed.or(Some(place.socket)),
            }
        }
        if self.socket.is_none()
            && self.data.is_none()
            && let Some(found) = self.elsewhere().await?
        {
            return Ok(Some(found));
        }
        if let Some(socket) = closed {
            bail!(
                "the control socket {} is closed to this user (uid {}): an administrator configures `control.socket` outside of \
                 the data folder, adds the user to its group (usermod --append --groups), and to [people]",
                socket.display(),
                geteuid()
            );
        }
        Ok(None)
    }

    /// What is to be said of the host that answered: its configuration, where that is not the one that was given.
    pub fn note(&self, pid: u32, configuration: &Path) -> Option<String> {
        let why = match &self.config {
            Ok(_) if configuration == self.path => return None,
            Ok(_) => format!("not with {}", self.file.display()),
            Err(error) => words(error),
        };
        Some(format!(
            "the running host (process {pid}) was started with the configuration {}; {why}",
            configuration.display()
        ))
    }

    /// Why there is no host, and no way to do without one.
    pub fn none_runs(&self, error: &Error) -> Error {
        let asked = match (&self.socket, &self.data) {
            (Some(socket), _) => format!("no host listens at {}", socket.display()),
            (None, Some(data)) => format!("no host runs in {}", data.display()),
            (None, None) => {
                "no running host was found; name its data folder (--data) or its socket (--socket)"
                    .to_owned()
            }
        };
        anyhow!("{}; {asked}", words(error))
    }

    /// Where the host listens that the options or the configuration name.
    fn named(&self) -> Vec<Place> {
        if let Some(socket) = &self.socket {
            return vec![Place::named(socket)];
        }
        if let Some(data) = &self.data {
            return in_data(data);
        }
        let reached;
        let config = match &self.config {
            Ok(config) => config,
            Err(_) => match Config::to_reach(&self.file) {
                Some(config) => {
                    reached = config;
                    &reached
                }
                None => return Vec::new(),
            },
        };
        let data = config.data().ok();
        let announced = data.and_then(|data| Place::announced(&Presence::in_data(&data)));
        let mut places: Vec<_> = announced.into_iter().collect();
        if let Ok(socket) = config.socket() {
            places.extend(Place::announced(&Presence::beside(&socket)));
            places.push(Place::bare(&socket));
        }
        let mut seen = BTreeSet::new();
        places.retain(|place| seen.insert(place.socket.clone()));
        places
    }

    /// The host that nothing names: one that was started with this configuration, or the only one where the
    /// configuration cannot be used.
    async fn elsewhere(&self) -> Result<Option<Found>> {
        let mut running = Vec::new();
        for place in usual() {
            // What is closed to this user, or not as it should be, is another one's host.
            if let Ok(Tried::Connected(stream)) = place.connect().await {
                running.push((place, stream));
            }
        }
        let found = |(place, stream): (Place, UnixStream)| Found {
            stream,
            data: place.data,
        };
        let same =
            |(place, _): &(Place, _)| place.configuration.as_deref() == Some(self.path.as_path());
        if let Some(at) = running.iter().position(same) {
            return Ok(Some(found(running.swap_remove(at))));
        }
        let Err(error) = &self.config else {
            return Ok(None);
        };
        if running.len() > 1 {
            let places = running.iter().map(|(place, _)| place.words());
            bail!(
                "{}; several hosts run, name one with --data or --socket: {}",
                words(error),
                places.collect::<Vec<_>>().join(", ")
            );
        }
        Ok(running.pop().map(found))
    }
}

impl Place {
    /// A socket of which nothing else is known.
    fn bare(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            owner: None,
            configuration: None,
            data: None,
        }
    }

    /// A socket that was named. Its data folder is what the host's file says, which is beside the socket or in that folder.
    fn named(socket: &Path) -> Self {
        let at = std::path::absolute(socket).ok();
        let files = [
            Some(Presence::beside(socket)),
            socket.parent().map(Presence::in_data),
        ];
        let mut announced = files
            .iter()
            .flatten()
            .filter_map(|file| Self::announced(file));
        let host = announced.find(|place| Some(&place.socket) == at.as_ref());
        Self {
            data: host.and_then(|host| host.data),
            ..Self::bare(socket)
        }
    }

    /// The socket that a host's file names.
    fn announced(file: &Path) -> Option<Self> {
        let (presence, owner) = Presence::read(file)?;
        // Nothing is put into a folder that is not its own. One that cannot be looked at is still named to people.
        let found = std::fs::metadata(&presence.data);
        let owns = found.map_or(true, |found| found.uid() == owner);
        Some(Self {
            socket: presence.socket,
            owner: Some(owner),
            configuration: Some(presence.configuration),
            data: owns.then_some(presence.data),
        })
    }

    fn words(&self) -> String {
        match &self.data {
            Some(data) => format!("--data {}", data.display()),
            None => format!("--socket {}", self.socket.display()),
        }
    }

    async fn connect(&self) -> Result<Tried> {
        let mut connected = UnixStream::connect(&self.socket).await;
        // So many clients come at once that the queue of the socket is full: this one waits in line.
        if matches!(&connected, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            let socket = self.socket.clone();
            let waiting = tokio::task::spawn_blocking(move || {
                let stream = std::os::unix::net::UnixStream::connect(socket)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            });
            let waited = tokio::time::timeout(CROWDED_TIMEOUT, waiting).await;
            let waited = waited.map_err(std::io::Error::from)??;
            connected = waited.and_then(UnixStream::from_std);
        }
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Tried::Closed),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(Tried::Nobody);
            }
            Err(error) => {
                return Err(Error::from(error)
                    .context(format!("cannot connect to {}", self.socket.display())));
            }
        };
        let owner = match self.owner {
            Some(owner) => owner,
            None => match std::fs::symlink_metadata(&self.socket) {
                Ok(found) => found.uid(),
                // It ended just now.
                Err(_) => return Ok(Tried::Nobody),
            },
        };
        let listens = stream.peer_cred()?.uid();
        ensure!(
            listens == owner || listens == 0,
            "a process of uid {listens} listens at {}, which belongs to uid {owner}: it is not the host, so nothing was asked; \
             find out who started it, and remove the socket",
            self.socket.display()
        );
        Ok(Tried::Connected(stream))
    }
}

/// Where the host of a data folder listens.
fn in_data(data: &Path) -> Vec<Place> {
    let mut places: Vec<_> = Place::announced(&Presence::in_data(data))
        .into_iter()
        .collect();
    let usual = Place {
        data: Some(data.to_owned()),
        ..Place::bare(&data.join(config::SOCKET))
    };
    if places.iter().all(|place| place.socket != usual.socket) {
        places.push(usual);
    }
    places
}

/// Where hosts are that no option and no configuration names, each once.
fn usual() -> Vec<Place> {
    let folders = [Some(PathBuf::from(RUN)), config::own_hosts()];
    let folders = folders.iter().flatten();
    let mut files: Vec<_> = folders
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|is| is == "json"))
        .collect();
    files.sort();
    let mut places: Vec<_> = files
        .iter()
        .filter_map(|file| Place::announced(file))
        .collect();
    places.extend(
        config::usual_data()
            .iter()
            .flat_map(|folder| in_data(folder)),
    );
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert(place.socket.clone()));
    places
}

/// A file from the root on, with the links of its folder followed, whether it is there or not.
fn leads_to(file: &Path) -> PathBuf {
    if let Ok(path) = file.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    match (
        absolute.parent().map(Path::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => absolute,
    }
}
