//! A granted folder, and what a plugin can do in it.
//!
//! Invariant: a file is written under a hidden name and renamed, so a reader sees the old content or the new one. Changes
//! of one folder happen one after the other in this process; what another program does at the same time can be lost or
//! make a change fail, and leads nowhere else.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{AtFlags, Mode, RenameFlags, Stat, fstat, fsync, mkdirat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::beneath::{Found, Identity, Root};
use crate::error::{FolderError, OpenError};
use crate::path::{FilePath, parse_prefix, shown};
use crate::places::Places;
use crate::temporary::Temporary;
use crate::walk::{self, MAX_ENTRIES};

/// Maximum bytes of a file that is read or written.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Maximum bytes of the paths of a list.
const MAX_LIST_BYTES: usize = 1 << 20;
/// How long a change waits for those before it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a change looks again at a path that others change.
const ATTEMPTS: usize = 3;
/// The rights of a file, and those of a folder before the umask.
const PERMISSIONS: u32 = 0o777;

/// What a manifest grants of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Name in the manifest.
    pub name: String,
    /// Where the folder is.
    pub path: PathBuf,
    /// Whether files may be written and deleted.
    pub writable: bool,
    /// Maximum bytes of all its files together.
    pub max_bytes: u64,
    /// Maximum number of its files, and of everything else that is not a folder.
    pub max_files: u32,
}

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path in the folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change, since 1970.
    pub modified: Duration,
}

/// What has to be true of a path for a change to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    Anything,
    /// There is no such file.
    Absent,
    /// The file's content has this SHA-256, in lower-case hexadecimal digits.
    Digest(String),
}

/// The folders of one manifest, by name.
#[derive(Debug, Default)]
pub struct Folders(BTreeMap<String, Folder>);

impl Folders {
    /// Opens the folders that a manifest grants.
    ///
    /// # Errors
    /// When one of them cannot be opened, or is not apart from these places.
    pub fn open(
        grants: impl IntoIterator<Item = Grant>,
        places: &Places,
    ) -> Result<Self, OpenError> {
        let opened = grants.into_iter().map(|grant| {
            let name = grant.name.clone();
            Folder::open(grant, places).map(|folder| (name, folder))
        });
        opened.collect::<Result<_, _>>().map(Self)
    }

    /// The folder of a name.
    ///
    /// # Errors
    /// When none is granted under it.
    pub fn get(&self, name: &str) -> Result<&Folder, FolderError> {
        self.0.get(name).ok_or_else(|| {
            FolderError::NotGranted(format!(
                "the manifest grants no folder {} by [[folder]]",
                shown(name)
            ))
        })
    }

    /// Whether they are the same folders by the same grants: one that was moved or made again is another.
    #[must_use]
    pub fn are_same(&self, others: &Self) -> bool {
        let identity = |folder: &Folder| (folder.grant.clone(), folder.root.identity());
        let (these, others) = (self.iter().map(identity), others.iter().map(identity));
        these.eq(others)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Folder> {
        self.0.values()
    }
}

/// A granted folder. Clones are the same.
#[derive(Debug, Clone)]
pub struct Folder {
    grant: Grant,
    root: Arc<Root>,
    changes: Arc<Mutex<()>>,
}

impl Folder {
    /// Opens a folder, which has to be apart from these places.
    ///
    /// # Errors
    /// When it cannot be opened, or is not apart from them.
    pub fn open(grant: Grant, places: &Places) -> Result<Self, OpenError> {
        let root = Root::open(&grant.name, &grant.path)?;
        places.check(&grant.name, &root)?;
        Ok(Self {
            grant,
            changes: lock_of(root.identity()),
            root: Arc::new(root),
        })
    }

    /// The same folder with no more than another grant allows too; `None` if that one is about another path.
    #[must_use]
    pub fn narrowed(&self, to: &Grant) -> Option<Self> {
        (self.grant.path == to.path).then(|| Self {
            grant: Grant {
                name: self.grant.name.clone(),
                path: self.grant.path.clone(),
                writable: self.grant.writable && to.writable,
                max_bytes: self.grant.max_bytes.min(to.max_bytes),
                max_files: self.grant.max_files.min(to.max_files),
            },
            root: Arc::clone(&self.root),
            changes: Arc::clone(&self.changes),
        })
    }

    /// What is granted.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether it is still where it was when it was opened: otherwise every request fails.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.root.check_in_place().is_ok()
    }

    /// Lists the files whose paths begin with a prefix, in ascending order of their paths.
    ///
    /// # Errors
    /// When the prefix is no start of a path, there are too many files, or the folder cannot be read.
    pub fn list(&self, prefix: &str) -> Result<Vec<File>, FolderError> {
        let folder = parse_prefix(prefix)?;
        self.root.check_in_place()?;
        let mut files = Vec::new();
        let mut bytes = 0;
        walk::files(&self.root, folder, |path, stat| {
            if !path.starts_with(prefix) {
                return Ok(());
            }
            bytes += path.len();
            if bytes > MAX_LIST_BYTES {
                return Err(FolderError::QuotaExceeded(format!(
                    "the paths that begin with {} are longer than 1 MiB together; list a longer prefix",
                    shown(prefix)
                )));
            }
            files.push(File {
                path: path.to_owned(),
                size: walk::size(stat),
                modified: walk::modified(stat),
            });
            Ok(())
        })?;
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When there is none, it is larger than [`MAX_FILE_BYTES`], or it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, FolderError> {
        let path = FilePath::parse(path)?;
        self.root.check_in_place()?;
        self.content(path)?.ok_or_else(|| missing(path))
    }

    /// Writes a file in one step, and makes the folders in its path.
    ///
    /// # Errors
    /// When the folder is granted for reading only, the path does not have what is expected, a quota would be exceeded, or
    /// the file system does not allow it. Nothing was changed then, except where the error says so.
    pub fn write(
        &self,
        path: &str,
        content: &[u8],
        expected: &Expectation,
    ) -> Result<(), FolderError> {
        let path = FilePath::parse(path)?;
        self.check_writable()?;
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if size > MAX_FILE_BYTES {
            return Err(too_large(path));
        }
        let _changing = self.start_change(path)?;
        let current = self.current(path)?;
        self.check_expected(path, current.as_ref(), expected)?;
        self.check_quota(path, current.as_ref(), size)?;
        let way = Way::make(&self.root, path)?;
        self.replace(&way, path, content, expected)
            .inspect_err(|_| way.unmake())?;
        way.sync().map_err(|error| {
            FolderError::Unavailable(format!(
                "{} was written, but may be lost if the machine loses power: {error}",
                shown(path.as_str())
            ))
        })
    }

    /// Deletes a file, and the folders in its path that are empty then. Returns its size in bytes.
    ///
    /// # Errors
    /// When the folder is granted for reading only, there is no file, it is not the expected one, or the file system does
    /// not allow it.
    pub fn delete(&self, path: &str, expected: &Expectation) -> Result<u64, FolderError> {
        let path = FilePath::parse(path)?;
        self.check_writable()?;
        let _changing = self.start_change(path)?;
        let failed = |error: Errno| failed(path, "deleted", &error.into());
        let found = self.root.find(path.as_str().as_bytes()).map_err(failed)?;
        let Found::File(stat) = found else {
            return Err(missing(path));
        };
        let parent = self.root.open_folder(parent(path).as_bytes());
        let parent = parent.map_err(failed)?;
        self.check_expected(path, Some(&stat), expected)?;
        self.check_parent(path, &parent)?;
        unlinkat(&parent, path.name(), AtFlags::empty()).map_err(failed)?;
        let _ = fsync(&parent);
        self.remove_empty(path);
        Ok(walk::size(&stat))
    }

    /// Checks that files may be written and deleted.
    ///
    /// # Errors
    /// When it is granted for reading only.
    pub fn check_writable(&self) -> Result<(), FolderError> {
        if self.grant.writable {
            return Ok(());
        }
        Err(FolderError::ReadOnly(format!(
            "nothing in the folder `{}` can be changed: the manifest grants it by mode = \"read\"",
            self.grant.name
        )))
    }

    fn start_change(&self, path: FilePath<'_>) -> Result<MutexGuard<'_, ()>, FolderError> {
        let changing = self.changes.try_lock_for(LOCK_TIMEOUT).ok_or_else(|| {
            FolderError::Unavailable(format!(
                "{} was not changed: other changes of the folder take longer than {} s",
                shown(path.as_str()),
                LOCK_TIMEOUT.as_secs()
            ))
        })?;
        self.root.check_in_place()?;
        Ok(changing)
    }

    /// The content of a file; `None` without one.
    fn content(&self, path: FilePath<'_>) -> Result<Option<Vec<u8>>, FolderError> {
        let unread = |error: io::Error| failed(path, "read", &error);
        let opened = self.root.open_file(path.as_str().as_bytes());
        let Some((file, stat)) = opened.map_err(|error| unread(error.into()))? else {
            return Ok(None);
        };
        if walk::size(&stat) > MAX_FILE_BYTES {
            return Err(too_large(path));
        }
        let mut content = Vec::new();
        // It can grow meanwhile.
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(unread)?;
        match u64::try_from(content.len()) {
            Ok(size) if size <= MAX_FILE_BYTES => Ok(Some(content)),
            _ => Err(too_large(path)),
        }
    }

    /// The file that a change would replace, if there is one.
    fn current(&self, path: FilePath<'_>) -> Result<Option<Stat>, FolderError> {
        let found = self.root.find(path.as_str().as_bytes());
        let found = found.map_err(|error| failed(path, "written", &error.into()))?;
        let why = match found {
            Found::File(stat) => return Ok(Some(stat)),
            Found::Nothing => return Ok(None),
            Found::HardLink(_) => "it has other names",
            Found::Folder => "it is a folder",
            Found::Other(why) => why,
        };
        Err(FolderError::Conflict(format!(
            "{} cannot be written: {why}",
            shown(path.as_str())
        )))
    }

    fn check_expected(
        &self,
        path: FilePath<'_>,
        current: Option<&Stat>,
        expected: &Expectation,
    ) -> Result<(), FolderError> {
        let conflict = |why: &str| {
            let path = shown(path.as_str());
            Err(FolderError::Conflict(format!("{path} {why}")))
        };
        match (expected, current) {
            (Expectation::Anything, _) | (Expectation::Absent, None) => Ok(()),
            (Expectation::Absent, Some(_)) => conflict("exists already"),
            (Expectation::Digest(_), None) => conflict("does not exist"),
            (Expectation::Digest(digest), Some(_)) => match self.content(path)? {
                Some(content) if hex::encode(Sha256::digest(&content)) == *digest => Ok(()),
                _ => conflict("has another content than the one of the expected digest"),
            },
        }
    }

    fn check_quota(
        &self,
        path: FilePath<'_>,
        current: Option<&Stat>,
        size: u64,
    ) -> Result<(), FolderError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let usage = walk::usage(&self.root, now.unwrap_or_default())?;
        let replaced = current.map_or(0, walk::size);
        let bytes = usage.bytes.saturating_sub(replaced).saturating_add(size);
        let files = usage.files.saturating_add(u32::from(current.is_none()));
        let exceeded = |what: String| {
            Err(FolderError::QuotaExceeded(format!(
                "{} was not written: the folder `{}` would hold {what}; delete files, or have the operator raise the quota",
                shown(path.as_str()),
                self.grant.name
            )))
        };
        // What makes a folder smaller that is too large is not refused.
        if bytes > self.grant.max_bytes && size > replaced {
            return exceeded(format!("{bytes} bytes of {}", self.grant.max_bytes));
        }
        if files > self.grant.max_files && current.is_none() {
            return exceeded(format!("{files} files of {}", self.grant.max_files));
        }
        let made = u32::try_from(path.depth()).unwrap_or(MAX_ENTRIES);
        if current.is_none() && usage.entries.saturating_add(made) > MAX_ENTRIES {
            return exceeded(format!("more than {MAX_ENTRIES} files and folders"));
        }
        Ok(())
    }

    fn replace(
        &self,
        way: &Way<'_>,
        path: FilePath<'_>,
        content: &[u8],
        expected: &Expectation,
    ) -> Result<(), FolderError> {
        let failed = |error: io::Error| failed(path, "written", &error);
        let mut temporary = Temporary::create(&way.parent).map_err(failed)?;
        let mode = self.current(path)?;
        let mode = mode.map(|stat| Mode::from_raw_mode(stat.st_mode & PERMISSIONS));
        temporary.fill(content, mode).map_err(failed)?;
        for _ in 0..ATTEMPTS {
            // Others may have changed it while the content was written.
            let current = self.current(path)?;
            self.check_expected(path, current.as_ref(), expected)?;
            self.check_parent(path, &way.parent)?;
            let flags = match current {
                Some(_) => RenameFlags::empty(),
                None => RenameFlags::NOREPLACE,
            };
            match temporary.rename(path.name(), flags) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL) => {
                    return Err(FolderError::Unavailable(format!(
                        "{} was not written: the file system of the folder cannot rename without replacing",
                        shown(path.as_str())
                    )));
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
        Err(FolderError::Conflict(format!(
            "{} was not written: others keep changing what is there",
            shown(path.as_str())
        )))
    }

    /// Checks that the folder which is changed is the one of the path: others may have moved it.
    fn check_parent(&self, path: FilePath<'_>, opened: &OwnedFd) -> Result<(), FolderError> {
        let failed = |error: Errno| failed(path, "changed", &error.into());
        let now = self.root.open_folder(parent(path).as_bytes());
        let now = Identity::of(&fstat(&now.map_err(failed)?).map_err(failed)?);
        if now == Identity::of(&fstat(opened).map_err(failed)?) {
            return Ok(());
        }
        Err(FolderError::Conflict(format!(
            "{} was not changed: a folder in its path was moved",
            shown(path.as_str())
        )))
    }

    /// Removes the folders on the way to a path that hold nothing.
    fn remove_empty(&self, path: FilePath<'_>) {
        let folders: Vec<_> = path.folders().collect();
        for (folder, name) in folders.into_iter().rev() {
            let above = folder.strip_suffix(name).unwrap_or_default();
            let above = above.strip_suffix('/').unwrap_or(above);
            let above = self.root.open_folder(above.as_bytes());
            // One that holds something is not removed by the kernel, nor are those above it.
            if !above.is_ok_and(|above| unlinkat(above, name, AtFlags::REMOVEDIR).is_ok()) {
                return;
            }
        }
    }
}

/// The folders on the way to a file, some of them just made.
struct Way<'a> {
    /// The one that holds the file.
    parent: OwnedFd,
    /// Those that were made, the outermost first, each with the one that holds it.
    made: Vec<(OwnedFd, &'a str)>,
}

impl<'a> Way<'a> {
    fn make(root: &Root, path: FilePath<'a>) -> Result<Self, FolderError> {
        let failed = |error: Errno| failed(path, "written", &error.into());
        let parent = root.open_folder(b"").map_err(failed)?;
        let mut way = Self {
            parent,
            made: Vec::new(),
        };
        for (folder, name) in path.folders() {
            let next = way.enter(root, folder, name);
            let next = next.inspect_err(|_| way.unmake()).map_err(failed)?;
            way.parent = next;
        }
        Ok(way)
    }

    /// Opens the next folder, and makes it first if it is not there.
    fn enter(&mut self, root: &Root, folder: &str, name: &'a str) -> Result<OwnedFd, Errno> {
        match root.open_folder(folder.as_bytes()) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        match mkdirat(&self.parent, name, Mode::from_raw_mode(PERMISSIONS)) {
            Ok(()) => {
                let parent = rustix::io::fcntl_dupfd_cloexec(&self.parent, 0)?;
                self.made.push((parent, name));
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        root.open_folder(folder.as_bytes())
    }

    /// Removes the folders that were made, if they are empty.
    fn unmake(&self) {
        for (parent, name) in self.made.iter().rev() {
            let _ = unlinkat(parent, *name, AtFlags::REMOVEDIR);
        }
    }

    /// Writes the names to disk.
    fn sync(&self) -> Result<(), Errno> {
        fsync(&self.parent)?;
        self.made.iter().try_for_each(|(parent, _)| fsync(parent))
    }
}

/// The lock of a folder, which all grants of it in this process share.
fn lock_of(folder: Identity) -> Arc<Mutex<()>> {
    static LOCKS: LazyLock<Mutex<HashMap<Identity, Weak<Mutex<()>>>>> =
        LazyLock::new(Mutex::default);
    let mut locks = LOCKS.lock();
    locks.retain(|_, lock| lock.strong_count() > 0);
    let lock = locks.get(&folder).and_then(Weak::upgrade);
    let lock = lock.unwrap_or_default();
    locks.insert(folder, Arc::downgrade(&lock));
    lock
}

/// The path of the folder that holds a file; empty for the granted one.
fn parent(path: FilePath<'_>) -> &str {
    path.as_str()
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

fn missing(path: FilePath<'_>) -> FolderError {
    FolderError::NotFound(format!(
        "there is no regular file at {}",
        shown(path.as_str())
    ))
}

fn too_large(path: FilePath<'_>) -> FolderError {
    FolderError::QuotaExceeded(format!(
        "{} is larger than the 16 MiB that a file may have",
        shown(path.as_str())
    ))
}

/// A failure of the file system, or what is in the way where a name was expected to be a folder.
fn failed(path: FilePath<'_>, what: &str, error: &io::Error) -> FolderError {
    let shown = shown(path.as_str());
    match Errno::from_io_error(error) {
        Some(Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ISDIR | Errno::NOENT) => {
            FolderError::Conflict(format!(
                "{shown} was not {what}: something that is not a folder is in its way, or others changed it"
            ))
        }
        _ => FolderError::Unavailable(format!("{shown} was not {what}: {error}")),
    }
}
