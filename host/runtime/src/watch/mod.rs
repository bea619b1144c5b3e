//! Tells when relevant files may have changed.
//!
//! A file is replaced by a rename, written in place, or reached through a link that is redirected:
//! the one of a release (`current -> releases/2`), or the two of a Kubernetes mount (`manifest.toml
//! -> ..data/manifest.toml`, `..data -> ..2026_01_31`). So every folder on the way to it is watched
//! for the one name that leads on (`watch_set`), and never what lies below. For a path that does not exist yet, the last
//! folder is the one where the next is missing.
//!
//! Invariants: changes of other names are ignored, so that a component can lie in a build's output
//! folder. A change while the watch is being set is not lost: the paths are walked again until
//! there is no new folder. The watch does not say *what* changed: the receiver checks everything,
//! since events can be lost.
//!
//! `notify-debouncer-full` holds every event back for the same time and does not follow links. This watch reports a rename
//! or a closed write after 10 ms, waits longer only while a file is being written in place (`burst`), and sets its watches
//! again when a link or a folder on the way is replaced.

mod burst;
mod watch_set;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use burst::{Burst, Change};
use watch_set::{WatchSet, WatchedFolder};

/// Maximum number of walks, when the folders change meanwhile.
const MAX_WALKS: usize = 8;

/// Why files are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system provides no watch at all.
    #[error(
        "changes of files cannot be watched: {0}; the limit is in /proc/sys/fs/inotify/max_user_instances"
    )]
    Start(notify::Error),
    /// This folder cannot be watched. The others are.
    #[error(
        "{}: changes in this folder cannot be watched: {source}; it has to be readable, and the number of watches is limited by \
         /proc/sys/fs/inotify/max_user_watches",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: notify::Error,
    },
}

/// A watch over files and folders.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    /// The watched folders, with device and inode: another folder at the same path is not watched.
    watched: HashMap<PathBuf, (u64, u64)>,
}

/// State shared by the thread that reads events and the task that waits.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The watched folders, and the relevant names in them.
    folders: HashMap<PathBuf, WatchedFolder>,
    /// Paths that were removed or moved away; watches there are gone.
    gone: Vec<PathBuf>,
    burst: Burst,
}

impl Watch {
    /// A watch over nothing yet.
    ///
    /// # Errors
    /// When the system has no watch left for this user.
    pub fn new() -> Result<Self, WatchError> {
        let shared = Arc::new(Shared::default());
        let receiver = Arc::clone(&shared);
        let watcher = RecommendedWatcher::new(
            move |event: notify::Result<Event>| receiver.receive(event.ok()),
            Config::default(),
        );
        Ok(Self {
            watcher: watcher.map_err(WatchError::Start)?,
            shared,
            watched: HashMap::new(),
        })
    }

    /// Sets the relevant paths, whether they exist or not. For a file every change is relevant; for
    /// a folder, which entries it has and which of them were written.
    ///
    /// Call it before reading the files, or a change in between is missed.
    ///
    /// # Errors
    /// When a folder cannot be watched: the system's limit is reached, or this user cannot read it.
    /// Everything else is watched then.
    pub fn set(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Result<(), WatchError> {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let mut watched = Ok(());
        for _ in 0..MAX_WALKS {
            let folders = watch_set::walk(&paths);
            let (is_new, result) = self.watch(folders);
            watched = result;
            if !is_new {
                break;
            }
        }
        watched
    }

    /// Waits for a change and then for the end of the burst: 10 ms after the last rename or closed
    /// write, and up to 100 ms while a file is being written in place. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let news = self.shared.news.notified();
            let now = Instant::now();
            let due = self.shared.state.lock().burst.due();
            match due {
                None => news.await,
                Some(due) if due <= now => {
                    self.shared.state.lock().burst.end();
                    return;
                }
                Some(due) => {
                    // Either the burst is over, or there is another event.
                    drop(tokio::time::timeout_at(due.into(), news).await);
                }
            }
        }
    }

    /// Watches exactly these folders; returns whether one of them is new.
    fn watch(&mut self, folders: WatchSet) -> (bool, Result<(), WatchError>) {
        {
            let mut state = self.shared.state.lock();
            for gone in state.gone.drain(..) {
                self.watched.retain(|folder, _| !folder.starts_with(&gone));
            }
            // Before the watches, so that an event of a new one finds its relevant names.
            state.folders.clone_from(&folders);
        }
        let former: Vec<PathBuf> = self
            .watched
            .keys()
            .filter(|folder| !folders.contains_key(*folder))
            .cloned()
            .collect();
        for folder in former {
            self.unwatch(&folder);
        }
        let (mut is_new, mut watched) = (false, Ok(()));
        for (path, folder) in folders {
            let Ok(found) = std::fs::metadata(&path) else {
                is_new = true;
                continue;
            };
            let identity = (found.dev(), found.ino());
            if self.watched.get(&path) == Some(&identity) {
                continue;
            }
            self.unwatch(&path);
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, identity);
                    is_new = true;
                }
                // It was removed just now: the next walk ends before it.
                Err(error) if is_not_found(&error) => is_new = true,
                Err(source) if folder.near => watched = Err(WatchError::Folder { path, source }),
                // A folder further up is rarely renamed; one that this user cannot read is skipped.
                Err(_) => {}
            }
        }
        (is_new, watched)
    }

    fn unwatch(&mut self, folder: &Path) {
        if self.watched.remove(folder).is_some() {
            // The watch may have ended with the folder.
            drop(self.watcher.unwatch(folder));
        }
    }
}

fn is_not_found(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Shared {
    /// Handles an event; `None` stands for lost events.
    fn receive(&self, event: Option<Event>) {
        if self.state.lock().receive(event.as_ref(), Instant::now()) {
            self.news.notify_one();
        }
    }
}

impl State {
    /// Handles an event; returns whether it is relevant.
    fn receive(&mut self, event: Option<&Event>, now: Instant) -> bool {
        let Some(event) = event.filter(|event| !event.need_rescan()) else {
            self.burst.add(Change::Complete, Path::new(""), now);
            return true;
        };
        let change = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Complete,
            // Reads change nothing, and may be the host's own.
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) => Change::Writing,
            _ => Change::Complete,
        };
        let gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        let mut relevant = false;
        for path in &event.paths {
            if gone && self.folders.keys().any(|folder| folder.starts_with(path)) {
                self.gone.push(path.clone());
            } else if !self.is_relevant(path, change) {
                continue;
            }
            self.burst.add(change, path, now);
            relevant = true;
        }
        relevant
    }

    fn is_relevant(&self, path: &Path, change: Change) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        self.folders.get(folder).is_some_and(|folder| {
            folder.names.contains(name) || (folder.entries && change == Change::Complete)
        })
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind};
    use std::time::Duration;

    use super::*;

    /// `/etc/host.toml` is relevant, and the entries of `/etc/plugins`.
    fn state() -> State {
        let file = WatchedFolder {
            names: ["host.toml".into(), "plugins".into()].into(),
            near: true,
            entries: false,
        };
        let folder = WatchedFolder {
            names: ["a.toml".into()].into(),
            near: true,
            entries: true,
        };
        State {
            folders: [("/etc".into(), file), ("/etc/plugins".into(), folder)].into(),
            ..State::default()
        }
    }

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn names_that_are_not_watched_do_not_matter() {
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let made = EventKind::Create(CreateKind::File);
        let chmod = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for (kind, path, matters) in [
            (written, "/etc/host.toml", true),
            (to, "/etc/host.toml", true),
            (chmod, "/etc/host.toml", true),
            (read, "/etc/host.toml", false),
            (to, "/etc/other.toml", false),
            (made, "/etc/plugins", true),
            (made, "/etc/plugins/b.toml", true),
            (closed, "/etc/plugins/b.toml", true),
            // An incomplete write of an irrelevant entry is ignored, that of a relevant file is
            // not.
            (written, "/etc/plugins/b.toml", false),
            (written, "/etc/plugins/a.toml", true),
            (made, "/etc/plugins/deeper/c.toml", false),
            (made, "/", false),
        ] {
            let mut state = state();
            let taken = state.receive(Some(&event(kind, path)), Instant::now());
            assert_eq!(taken, matters, "{kind:?} {path}");
            assert_eq!(state.burst.due().is_some(), matters, "{kind:?} {path}");
        }
    }

    #[test]
    fn what_was_watched_below_something_that_went_is_watched_again() {
        let away = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        for (kind, path) in [
            (away, "/etc"),
            (EventKind::Remove(RemoveKind::Folder), "/etc/plugins"),
        ] {
            let mut state = state();
            assert!(state.receive(Some(&event(kind, path)), Instant::now()));
            assert_eq!(state.gone, [PathBuf::from(path)]);
        }
    }

    #[test]
    fn lost_events_are_a_change() {
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let now = Instant::now();
        for event in [Some(&lost), None] {
            let mut state = state();
            assert!(state.receive(event, now));
            assert_eq!(state.burst.due(), Some(now + Duration::from_millis(10)));
        }
    }
}
