//! Tells when files that matter may have changed.
//!
//! A file is replaced by a rename over it, written in place, or reached through a link that somebody
//! turns: the one of a release (`current -> releases/2`), or the two of a Kubernetes mount
//! (`manifest.toml -> ..data/manifest.toml`, `..data -> ..2026_01_31`). So what is watched is every
//! folder on the way to it, for the one name in it that leads on (`way`), and never what lies below.
//! A path that is not there yet has a way too: it ends where the next folder is missing.
//!
//! Invariants: names that nobody asked for are no change, so that a component can lie in a folder
//! where a build writes. What changes while the watch is being set is not lost: the way is walked
//! again until no folder on it is new. Nothing is said about *what* changed: whoever waits looks at
//! everything, since events can be lost and files cannot.

mod quiet;
mod way;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use quiet::{Quiet, Step};
use way::{Folder, Ways};

/// How often a way is walked again because it changed meanwhile.
const WALKS: usize = 8;

/// Why files are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system gives no watch at all.
    #[error(
        "changes of files cannot be watched: {0}; the limit is in /proc/sys/fs/inotify/max_user_instances"
    )]
    Start(notify::Error),
    /// It does not watch this folder. The others are watched.
    #[error(
        "{}: changes in this folder cannot be watched: {source}; it has to be readable, and the number of watches is limited by \
         /proc/sys/fs/inotify/max_user_watches",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// A watch over files and folders.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    /// The folders that are watched, with device and inode: another folder in the same place is not.
    watched: HashMap<PathBuf, (u64, u64)>,
}

/// What the thread that reads the events and the one that waits share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The folders that are watched, and what matters in them.
    folders: HashMap<PathBuf, Folder>,
    /// What was removed or moved away: what was watched there is not any more.
    gone: Vec<PathBuf>,
    quiet: Quiet,
}

impl Watch {
    /// A watch over nothing yet.
    ///
    /// # Errors
    /// When the system has no watch left for this user.
    pub fn new() -> Result<Self, WatchError> {
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let watcher = RecommendedWatcher::new(
            move |event: notify::Result<Event>| told.take_in(event.ok()),
            Config::default(),
        );
        Ok(Self {
            watcher: watcher.map_err(WatchError::Start)?,
            shared,
            watched: HashMap::new(),
        })
    }

    /// What matters from now on, whether it is there or not. Of a file it is every change; of a folder
    /// it is which entries it has, and which of them were written.
    ///
    /// Set it before you look at the files, or what changes in between is missed.
    ///
    /// # Errors
    /// When a folder cannot be watched: the system's limit is reached, or it is closed to this user.
    /// Everything else is watched then.
    pub fn set(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Result<(), WatchError> {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let mut placed = Ok(());
        for _ in 0..WALKS {
            let folders = way::walk(&paths);
            let (fresh, result) = self.place(folders);
            placed = result;
            if !fresh {
                break;
            }
        }
        placed
    }

    /// Waits for a change and then until it is quiet: 10 ms after the last rename or closed write,
    /// and up to 100 ms while a file is being written in place. It can be dropped and called again
    /// without missing a change.
    pub async fn changed(&mut self) {
        loop {
            let news = self.shared.news.notified();
            let now = Instant::now();
            let due = self.shared.lock().quiet.due();
            match due {
                None => news.await,
                Some(due) if due <= now => {
                    self.shared.lock().quiet.end();
                    return;
                }
                Some(due) => {
                    // Either the time is over, or there is more to wait for.
                    drop(tokio::time::timeout_at(due.into(), news).await);
                }
            }
        }
    }

    /// Watches these folders and no others; says whether one of them is new.
    fn place(&mut self, folders: Ways) -> (bool, Result<(), WatchError>) {
        {
            let mut state = self.shared.lock();
            for gone in state.gone.drain(..) {
                self.watched.retain(|folder, _| !folder.starts_with(&gone));
            }
            // Before the watches: an event of a new one must find what matters in it.
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
        let (mut fresh, mut placed) = (false, Ok(()));
        for (path, folder) in folders {
            let Ok(found) = std::fs::metadata(&path) else {
                fresh = true;
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
                    fresh = true;
                }
                // Somebody took it away just now: the next walk ends before it.
                Err(error) if vanished(&error) => fresh = true,
                Err(source) if folder.near => placed = Err(WatchError::Folder { path, source }),
                // A folder further up is hardly ever renamed; one that is closed to us is let be.
                Err(_) => {}
            }
        }
        (fresh, placed)
    }

    fn unwatch(&mut self, folder: &Path) {
        if self.watched.remove(folder).is_some() {
            // It may have gone by itself, with the folder.
            drop(self.watcher.unwatch(folder));
        }
    }
}

fn vanished(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event in; none stands for events that were lost.
    fn take_in(&self, event: Option<Event>) {
        if self.lock().take_in(event.as_ref(), Instant::now()) {
            self.news.notify_one();
        }
    }
}

impl State {
    /// Takes an event in; says whether it matters.
    fn take_in(&mut self, event: Option<&Event>, now: Instant) -> bool {
        let Some(event) = event.filter(|event| !event.need_rescan()) else {
            self.quiet.step(Step::Done, Path::new(""), now);
            return true;
        };
        let step = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Step::Done,
            // Whoever reads changes nothing; it may be us.
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) => Step::Writing,
            _ => Step::Done,
        };
        let gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        let mut matters = false;
        for path in &event.paths {
            if gone && self.folders.keys().any(|folder| folder.starts_with(path)) {
                self.gone.push(path.clone());
            } else if !self.matters(path, step) {
                continue;
            }
            self.quiet.step(step, path, now);
            matters = true;
        }
        matters
    }

    fn matters(&self, path: &Path, step: Step) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        self.folders.get(folder).is_some_and(|folder| {
            folder.names.contains(name) || (folder.entries && step == Step::Done)
        })
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind};
    use std::time::Duration;

    use super::*;

    /// `/etc/host.toml` matters, and what is in `/etc/plugins`.
    fn state() -> State {
        let file = Folder {
            names: ["host.toml".into(), "plugins".into()].into(),
            near: true,
            entries: false,
        };
        let folder = Folder {
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
    fn names_that_nobody_asked_for_do_not_matter() {
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
            // Half of an entry that nobody asked for is of no interest, and half of a file is.
            (written, "/etc/plugins/b.toml", false),
            (written, "/etc/plugins/a.toml", true),
            (made, "/etc/plugins/deeper/c.toml", false),
            (made, "/", false),
        ] {
            let mut state = state();
            let taken = state.take_in(Some(&event(kind, path)), Instant::now());
            assert_eq!(taken, matters, "{kind:?} {path}");
            assert_eq!(state.quiet.due().is_some(), matters, "{kind:?} {path}");
        }
    }

    #[test]
    fn what_was_watched_below_something_that_went_is_watched_anew() {
        let away = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        for (kind, path) in [
            (away, "/etc"),
            (EventKind::Remove(RemoveKind::Folder), "/etc/plugins"),
        ] {
            let mut state = state();
            assert!(state.take_in(Some(&event(kind, path)), Instant::now()));
            assert_eq!(state.gone, [PathBuf::from(path)]);
        }
    }

    #[test]
    fn lost_events_are_a_change() {
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let now = Instant::now();
        for event in [Some(&lost), None] {
            let mut state = state();
            assert!(state.take_in(event, now));
            assert_eq!(state.quiet.due(), Some(now + Duration::from_millis(10)));
        }
    }
}
