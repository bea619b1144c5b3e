//! How a command finds its host.
//!
//! The places are tried in this order: the socket given, the data folder given, what the configuration names, every `*.json`
//! next to the configured socket, `/run/qchost`, the hosts of this user, and the usual data folders. A configuration that is
//! broken, changed, missing or unreadable does not keep an operator from a running host: its readable parts count, and a
//! host elsewhere is accepted if it has the given data folder, was started with the same configuration, or is the only one
//! while the configuration says nothing. A place that this user cannot read does not count as empty: the next one is tried,
//! and if no host is found, it is reported.
//!
//! Invariants: a host given by an option is the only one that gets the request. Nothing is requested from a process that
//! does not belong to the owner of the socket or to root.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result, anyhow, bail, ensure};
use nix::unistd::geteuid;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use tokio::net::UnixStream;

use super::presence::Presence;
use crate::config::{self, Config};
use crate::exit_status::{self, Failed};
use crate::output::words;

/// Where hosts with a socket for a group are announced.
const RUN: &str = "/run/qchost";
/// Maximum announcements read in one folder.
const MAX_FILES: usize = 1_000;

/// How long a command waits to connect to a host whose backlog is full.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(10);

/// What a command knows of its host.
pub struct Route {
    /// The configuration, or why it is invalid.
    config: Result<Config>,
    /// Its file, as given.
    file: PathBuf,
    /// Its absolute path, with links resolved as far as it exists.
    path: PathBuf,
    /// The socket, if given.
    socket: Option<PathBuf>,
    /// The data folder, if given.
    data: Option<PathBuf>,
    /// The data folder in the configuration.
    file_data: Option<PathBuf>,
    /// Places where a host may be that this user cannot see, with the reason.
    unseen: Mutex<BTreeSet<String>>,
}

/// A place where a host may listen.
#[derive(Debug, Clone, Default)]
struct Candidate {
    socket: PathBuf,
    /// The owner according to an announcement; otherwise the socket's owner.
    owner: Option<u32>,
    /// The configuration of the host, if announced.
    configuration: Option<PathBuf>,
    data: Option<PathBuf>,
    /// The data folder that an announcement claims, whatever its owner.
    claimed: Option<PathBuf>,
}

/// A running host.
pub struct RunningHost {
    pub stream: UnixStream,
    /// Its data folder, if known.
    pub data: Option<PathBuf>,
}

/// The result of trying a place.
enum Probe {
    Connected(UnixStream),
    NotListening,
    Closed,
}

impl Route {
    /// A route from the command line's options.
    pub fn new(file: &Path, data: Option<PathBuf>, socket: Option<PathBuf>) -> Self {
        let mut config = Config::load(file);
        let file_data = config.as_ref().ok().and_then(|config| config.data.clone());
        if let (Ok(config), Some(data)) = (&mut config, &data) {
            config.data = Some(data.clone());
        }
        let path = match &config {
            Ok(config) => config.path.clone(),
            Err(_) => resolved(file),
        };
        Self {
            config,
            file: file.to_owned(),
            path,
            socket,
            data,
            file_data,
            unseen: Mutex::default(),
        }
    }

    /// The same configuration with another folder for everything a host creates, if none runs.
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
            file_data: Some(folder.to_owned()),
            unseen: Mutex::default(),
        }
    }

    /// The configuration, or why it is invalid.
    pub fn config(&self) -> Result<&Config> {
        self.config
            .as_ref()
            .map_err(|error| anyhow!("{}", words(error)))
    }

    /// The absolute path of the configuration.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The given socket, if any; then no host in this process substitutes for the one there.
    pub fn names_socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The host's data folder, as far as it is known without a request: that of the host at the given socket, the given one,
    /// or the configured one.
    pub fn data(&self) -> Option<PathBuf> {
        if let Some(socket) = &self.socket {
            return Candidate::named(socket).data;
        }
        if let Some(data) = &self.data {
            return Some(data.clone());
        }
        match &self.config {
            Ok(config) => config.data().ok(),
            Err(_) => Config::readable_parts(&self.file)?.data().ok(),
        }
    }

    /// Connects to the host, if one is found.
    ///
    /// # Errors
    /// When none is found, and one may run at a place that this user cannot read.
    pub async fn connect(&self) -> Result<Option<RunningHost>> {
        self.unseen.lock().clear();
        let (mut closed, mut failed) = (None, None);
        for candidate in self.named() {
            match candidate.connect().await {
                Ok(Probe::Connected(stream)) => {
                    let data = candidate.data.or_else(|| self.data());
                    return Ok(Some(RunningHost { stream, data }));
                }
                Ok(Probe::NotListening) => {}
                Ok(Probe::Closed) => {
                    self.note_unseen(&candidate.socket, "is closed to");
                    closed = closed.or(Some(candidate.socket));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if self.socket.is_none()
            && let Some(host) = self.connect_unnamed().await?
        {
            return Ok(Some(host));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if closed.is_some() {
            let message = format!(
                "{}; if that is the host's: an administrator configures `control.socket` outside of the data folder, adds the \
                 user (uid {}) to its group (usermod --append --groups), and to [people]",
                self.none_found(),
                geteuid()
            );
            return Err(Failed::error(exit_status::ErrorKind::UNAVAILABLE, message));
        }
        Ok(None)
    }

    /// The message that no host was found although one may run, and the remedy.
    pub fn none_found(&self) -> String {
        let unseen = self.unseen.lock();
        let mut words = match (&self.socket, &self.data) {
            (Some(socket), _) => format!("no host was found at {}", socket.display()),
            (None, Some(data)) => format!("no host was found that has {}", data.display()),
            (None, None) => {
                let data = self.data().map_or_else(String::new, |data| {
                    format!(" or the data folder {}", config::full(&data).display())
                });
                format!(
                    "no running host was found with the configuration {}{data}",
                    self.path.display()
                )
            }
        };
        if !unseen.is_empty() {
            let reasons: Vec<&str> = unseen.iter().map(String::as_str).collect();
            words += &format!("; {}", reasons.join(", "));
        }
        match self.socket {
            Some(_) => words,
            None => format!("{words}; if one runs, name its socket: --socket PATH"),
        }
    }

    /// A note about the host that answered, if its configuration is not the one given.
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

    /// The error that no host runs, and that the command cannot do without.
    pub fn none_runs(&self, error: &Error) -> Error {
        let no_host = match (&self.socket, &self.data) {
            (Some(socket), _) => format!("no host listens at {}", socket.display()),
            (None, Some(_)) => self.none_found(),
            (None, None) => format!("{}, or its data folder: --data FOLDER", self.none_found()),
        };
        // A configuration that is wrong is mended in its file, whether or not a host runs.
        let kind = match self.config {
            Ok(_) => exit_status::ErrorKind::UNAVAILABLE,
            Err(_) => exit_status::ErrorKind::Failed,
        };
        Failed::error(kind, format!("{}; {no_host}", words(error)))
    }

    /// The places named by the options or the configuration.
    fn named(&self) -> Vec<Candidate> {
        if let Some(socket) = &self.socket {
            return vec![Candidate::named(socket)];
        }
        let mut candidates = match &self.data {
            Some(data) => {
                self.note_unreadable(&Presence::in_data(data));
                in_data(data)
            }
            None => Vec::new(),
        };
        if let Some(config) = self.configured() {
            let its_data = config.data().ok();
            // With another data folder, only a host that announces the given one is accepted.
            let is_meant = |data: Option<&Path>| match &self.data {
                Some(named) => data.is_some_and(|data| same(named, data)),
                None => true,
            };
            if self.data.is_none()
                && let Some(data) = &its_data
            {
                self.note_unreadable(&Presence::in_data(data));
                candidates.extend(Candidate::announced(&Presence::in_data(data)));
            }
            if let Ok(socket) = config.socket() {
                let beside = Presence::beside(&socket);
                self.note_unreadable(&beside);
                let announced = Candidate::announced(&beside);
                candidates.extend(announced.filter(|host| is_meant(host.claimed.as_deref())));
                if is_meant(its_data.as_deref()) {
                    candidates.push(Candidate::unannounced(&socket));
                }
            }
        }
        remove_duplicates(&mut candidates);
        candidates
    }

    /// The configuration in its file, or the readable parts of it.
    fn configured(&self) -> Option<Config> {
        match &self.config {
            Ok(config) => Some(Config {
                data: self.file_data.clone(),
                ..config.clone()
            }),
            Err(_) => Config::readable_parts(&self.file),
        }
    }

    /// Remembers an announcement that this user cannot read.
    fn note_unreadable(&self, file: &Path) {
        // Not opened, which would block on a pipe.
        if matches!(access(file, Access::READ_OK), Err(Errno::ACCESS)) {
            self.note_unseen(file, "cannot be read by");
        }
    }

    /// Remembers a place that this user cannot see.
    fn note_unseen(&self, place: &Path, why: &str) {
        let reason = format!("{} {why} this user", place.display());
        self.unseen.lock().insert(reason);
    }

    /// The places that no option and no configuration names, without duplicates.
    fn unnamed(&self) -> Vec<Candidate> {
        let beside = self.configured().and_then(|config| config.control.socket);
        let beside = beside.and_then(|socket| Some(socket.parent()?.to_owned()));
        let folders = [beside, Some(PathBuf::from(RUN)), config::own_hosts()];
        let mut candidates = Vec::new();
        for folder in folders.into_iter().flatten() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    if error.kind() == ErrorKind::PermissionDenied {
                        self.note_unseen(&folder, "cannot be read by");
                    }
                    continue;
                }
            };
            let mut files: Vec<_> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|it| it == "json"))
                .take(MAX_FILES)
                .collect();
            files.sort();
            for file in files {
                self.note_unreadable(&file);
                candidates.extend(Candidate::announced(&file));
            }
        }
        for folder in config::usual_data() {
            candidates.extend(in_data(&folder));
        }
        remove_duplicates(&mut candidates);
        candidates
    }

    /// A host that nothing names: one started with this configuration, or the only one if the configuration is invalid.
    async fn connect_unnamed(&self) -> Result<Option<RunningHost>> {
        let mut running = Vec::new();
        for candidate in self.unnamed() {
            let named = self.data.as_deref();
            let announced = candidate.claimed.as_deref();
            if named.is_some_and(|named| announced.is_none_or(|data| !same(named, data))) {
                continue;
            }
            // A socket that is not accessible or not trusted belongs to another user's host.
            match candidate.connect().await {
                Ok(Probe::Connected(stream)) => running.push((candidate, stream)),
                Ok(Probe::Closed) => self.note_unseen(&candidate.socket, "is closed to"),
                Ok(Probe::NotListening) | Err(_) => {}
            }
        }
        let host = |(candidate, stream): (Candidate, UnixStream)| RunningHost {
            stream,
            data: candidate.data,
        };
        if self.data.is_some() {
            // A data folder has one host.
            return Ok(running.pop().map(host));
        }
        let is_ours = |(candidate, _): &(Candidate, _)| {
            candidate.configuration.as_deref() == Some(self.path.as_path())
        };
        if let Some(index) = running.iter().position(is_ours) {
            return Ok(Some(host(running.swap_remove(index))));
        }
        let Err(error) = &self.config else {
            return Ok(None);
        };
        if running.len() > 1 {
            let candidates = running.iter().map(|(candidate, _)| candidate.words());
            bail!(
                "{}; several hosts run, name one with --data or --socket: {}",
                words(error),
                candidates.collect::<Vec<_>>().join(", ")
            );
        }
        Ok(running.pop().map(host))
    }
}

impl Candidate {
    /// A socket without an announcement.
    fn unannounced(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            ..Self::default()
        }
    }

    /// A socket given by an option. Its data folder comes from the announcement next to it or in the same folder.
    fn named(socket: &Path) -> Self {
        let path = std::path::absolute(socket).ok();
        let files = [
            Some(Presence::beside(socket)),
            socket.parent().map(Presence::in_data),
        ];
        let mut announced = files
            .iter()
            .flatten()
            .filter_map(|file| Self::announced(file));
        let host = announced.find(|candidate| Some(&candidate.socket) == path.as_ref());
        Self {
            data: host.and_then(|host| host.data),
            ..Self::unannounced(socket)
        }
    }

    /// The socket in an announcement.
    fn announced(file: &Path) -> Option<Self> {
        let (presence, owner) = Presence::read(file)?;
        // Nothing is put into a folder that is not its own. An unreadable folder is still named in messages.
        let found = std::fs::metadata(&presence.data);
        let is_owner = found.map_or(true, |found| found.uid() == owner);
        Some(Self {
            socket: presence.socket,
            owner: Some(owner),
            configuration: Some(presence.configuration),
            claimed: Some(presence.data.clone()),
            data: is_owner.then_some(presence.data),
        })
    }

    fn words(&self) -> String {
        match &self.data {
            Some(data) => format!("--data {}", data.display()),
            None => format!("--socket {}", self.socket.display()),
        }
    }

    async fn connect(&self) -> Result<Probe> {
        let mut connected = UnixStream::connect(&self.socket).await;
        // The backlog of the socket is full, so wait for a place in it.
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
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Probe::Closed),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(Probe::NotListening);
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
                Err(_) => return Ok(Probe::NotListening),
            },
        };
        let peer = stream.peer_cred()?.uid();
        ensure!(
            peer == owner || peer == 0,
            "a process of uid {peer} listens at {}, which belongs to uid {owner}: it is not the host, so nothing was asked; \
             find out who started it, and remove the socket",
            self.socket.display()
        );
        Ok(Probe::Connected(stream))
    }
}

/// Where the host of a data folder listens.
fn in_data(data: &Path) -> Vec<Candidate> {
    let mut candidates: Vec<_> = Candidate::announced(&Presence::in_data(data))
        .into_iter()
        .collect();
    let usual = Candidate {
        data: Some(data.to_owned()),
        claimed: Some(data.to_owned()),
        ..Candidate::unannounced(&data.join(config::SOCKET))
    };
    if candidates
        .iter()
        .all(|candidate| candidate.socket != usual.socket)
    {
        candidates.push(usual);
    }
    candidates
}

fn remove_duplicates(candidates: &mut Vec<Candidate>) {
    let mut known = BTreeSet::new();
    candidates.retain(|candidate| known.insert(candidate.socket.clone()));
}

/// Whether two paths lead to the same folder, even if this user cannot read it.
fn same(one: &Path, other: &Path) -> bool {
    resolved(one) == resolved(other)
}

/// The absolute path of a file, with the links of its folder resolved, whether it exists or not.
fn resolved(file: &Path) -> PathBuf {
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
