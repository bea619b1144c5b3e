//! For tests only (feature `faults`): a [`Drive`] in memory that loses power, fills up and
//! fails to sync.
//!
//! It keeps apart what a program sees and what is on the disk. Content reaches the disk by a
//! sync of the file, names by a sync of the folder; folders themselves are there at once. After
//! [`Drive::lose_power_at`] every operation fails, and [`Drive::restart`] gives the drive as the
//! next start finds it; [`Drive::after_kill`] as it is found when only the process died.

mod content;

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{File, Files, Mode};
use content::{Change, Inode, Names, Random};

/// How much of the unsynced data is on disk after a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// Nothing.
    Nothing,
    /// A part of it, chosen by a seed: names or not, the first writes, the last of them torn,
    /// sometimes with a hole.
    Some(u64),
}

/// An event on a drive, for asserting their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written to a file at an offset.
    Written {
        /// The file's name when it was opened.
        name: String,
        /// The offset.
        offset: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// The content of a file reached the disk.
    Synced(String),
    /// The names of a folder reached the disk.
    FolderSynced,
    /// A mark set by a test with [`Drive::mark`].
    Mark(String),
}

/// The drive. Clones are the same drive.
#[derive(Debug, Clone, Default)]
pub struct Drive(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    folders: BTreeMap<PathBuf, Names>,
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    operations: u64,
    power_fails_at: Option<u64>,
    off: bool,
    capacity: Option<u64>,
    failing_syncs: Vec<String>,
    failing_writes: Vec<String>,
    held: bool,
    waiting: usize,
    events: Option<Vec<Event>>,
}

impl Drive {
    /// An empty drive without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Makes the power fail instead of the n-th modifying operation, counted from the beginning.
    pub fn lose_power_at(&self, operation: u64) {
        self.lock().power_fails_at = Some(operation);
    }

    /// Number of modifying operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The drive after the power is back. This one stays off.
    #[must_use]
    pub fn restart(&self, torn: Torn) -> Self {
        let mut state = self.lock();
        state.off = true;
        self.0.changed.notify_all();
        let mut random = match torn {
            Torn::Nothing => None,
            Torn::Some(seed) => Some(Random::new(seed)),
        };
        let mut next = State {
            last_inode: state.last_inode,
            capacity: state.capacity,
            ..State::default()
        };
        for (folder, names) in &state.folders {
            next.folders
                .insert(folder.clone(), names.after_power_loss(random.as_mut()));
        }
        for (number, inode) in &state.inodes {
            next.inodes
                .insert(*number, inode.after_power_loss(random.as_mut()));
        }
        next.collect();
        Self(Arc::new(Shared {
            state: Mutex::new(next),
            changed: Condvar::new(),
        }))
    }

    /// The drive as the next process finds it when this one was killed and the power stayed on: all
    /// written data can be read, and unsynced data is still not on disk.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut state = self.lock();
        state.off = true;
        self.0.changed.notify_all();
        let next = State {
            folders: state.folders.clone(),
            inodes: state.inodes.clone(),
            last_inode: state.last_inode,
            capacity: state.capacity,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(next),
            changed: Condvar::new(),
        }))
    }

    /// Limits the total size of all files in bytes. `None` removes the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How many bytes all files occupy.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Makes the next sync fail of a file whose name begins with `name`. As with a real disk, the
    /// data stays readable and never reaches the disk, and a later sync succeeds.
    pub fn fail_next_sync(&self, name: &str) {
        self.lock().failing_syncs.push(name.to_owned());
    }

    /// Makes the next write fail, after a part of it, to a file whose name begins with `name`.
    pub fn fail_next_write(&self, name: &str) {
        self.lock().failing_writes.push(name.to_owned());
    }

    /// Makes every sync wait until [`Drive::let_syncs_go`].
    pub fn hold_syncs(&self) {
        self.lock().held = true;
    }

    /// Ends [`Drive::hold_syncs`].
    pub fn let_syncs_go(&self) {
        self.lock().held = false;
        self.0.changed.notify_all();
    }

    /// Number of waiting syncs.
    #[must_use]
    pub fn waiting_syncs(&self) -> usize {
        self.lock().waiting
    }

    /// Starts recording events.
    pub fn remember(&self) {
        self.lock().events = Some(Vec::new());
    }

    /// Puts a mark between the events.
    pub fn mark(&self, mark: impl Into<String>) {
        self.lock().event(|| Event::Mark(mark.into()));
    }

    /// What happened since [`Drive::remember`].
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone().unwrap_or_default()
    }

    /// Changes a file's content on disk as well, unnoticed by a process that has it open.
    ///
    /// # Errors
    /// There is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.lock();
        let number = state.find(path)?;
        let inode = state.inode(number)?;
        change(&mut inode.now);
        inode.on_disk.clone_from(&inode.now);
        inode.pending.clear();
        Ok(())
    }
}

impl State {
    /// Counts a modifying operation, and fails it if the power is lost.
    fn operate(&mut self) -> io::Result<()> {
        if !self.off
            && self
                .power_fails_at
                .is_some_and(|at| self.operations + 1 >= at)
        {
            self.off = true;
        }
        self.powered()?;
        self.operations += 1;
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.off {
            return Err(io::Error::other("the power was lost"));
        }
        Ok(())
    }

    fn event(&mut self, event: impl FnOnce() -> Event) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    fn names(&mut self, path: &Path) -> io::Result<(&mut Names, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let folder = path
            .parent()
            .and_then(|folder| self.folders.get_mut(folder));
        match (folder, name) {
            (Some(names), Some(name)) => Ok((names, name.to_owned())),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn find(&mut self, path: &Path) -> io::Result<u64> {
        let (names, name) = self.names(path)?;
        let number = names.now.get(&name).copied();
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let named = self.folders.values().flat_map(|names| names.now.values());
        named
            .filter_map(|number| self.inodes.get(number))
            .map(|inode| inode.now.len() as u64)
            .sum()
    }

    fn room(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    /// Removes files without a name.
    fn collect(&mut self) {
        let folders = &self.folders;
        self.inodes.retain(|number, _| {
            folders.values().any(|names| {
                names
                    .now
                    .values()
                    .chain(names.on_disk.values())
                    .any(|named| named == number)
            })
        });
    }

    /// Takes a fault for this file off a list, if there is one.
    fn fault(faults: &mut Vec<String>, name: &str) -> bool {
        let found = faults
            .iter()
            .position(|prefix| name.starts_with(prefix.as_str()));
        found.map(|index| faults.remove(index)).is_some()
    }
}

impl Files for Drive {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.powered()?;
        state.folders.entry(folder.to_owned()).or_default();
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.powered()?;
        let number = match state.find(path) {
            Ok(number) => {
                if mode == Mode::Create {
                    state.operate()?;
                    state.inode(number)?.change(Change::Cut(0));
                }
                number
            }
            Err(error) if mode != Mode::Create => return Err(error),
            Err(_) => {
                state.operate()?;
                state.last_inode += 1;
                let number = state.last_inode;
                let (names, name) = state.names(path)?;
                names.now.insert(name, number);
                state.inodes.insert(number, Inode::default());
                number
            }
        };
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Box::new(FaultyFile {
            drive: self.clone(),
            number,
            name,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let number = state.find(from)?;
        let (names, name) = state.names(from)?;
        names.now.remove(&name);
        let (names, name) = state.names(to)?;
        names.now.insert(name, number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        state.find(path)?;
        let (names, name) = state.names(path)?;
        names.now.remove(&name);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let names = state.folders.get_mut(folder);
        let names = names.ok_or(io::ErrorKind::NotFound)?;
        names.on_disk.clone_from(&names.now);
        state.event(|| Event::FolderSynced);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.powered()?;
        let names = state.folders.get(folder).ok_or(io::ErrorKind::NotFound)?;
        Ok(names.now.keys().cloned().collect())
    }

    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut file = self.open(path, Mode::Create)?;
        let zeros = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        crate::files::write_all(&mut *file, &zeros, 0)?;
        file.sync()
    }
}

#[derive(Debug)]
struct FaultyFile {
    drive: Drive,
    number: u64,
    name: String,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.drive.lock();
        state.powered()?;
        let content = &state.inode(self.number)?.now;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.get(offset..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(read)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.drive.lock();
        state.operate()?;
        let failing = State::fault(&mut state.failing_writes, &self.name);
        let room = state.room();
        let inode = state.inode(self.number)?;
        let within = (inode.now.len() as u64).saturating_sub(offset);
        let fits = usize::try_from(within.saturating_add(room)).unwrap_or(usize::MAX);
        let part = bytes.get(..fits.min(bytes.len())).unwrap_or(bytes);
        let part = if failing {
            part.get(..part.len() / 2).unwrap_or(part)
        } else {
            part
        };
        inode.change(Change::Write(offset, part.to_vec()));
        if failing {
            return Err(io::Error::other("the disk failed to write"));
        }
        if part.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let event = || Event::Written {
            name: self.name.clone(),
            offset,
            bytes: part.to_vec(),
        };
        state.event(event);
        Ok(part.len())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.drive.lock();
        state.powered()?;
        Ok(state.inode(self.number)?.now.len() as u64)
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        let mut state = self.drive.lock();
        state.operate()?;
        state.inode(self.number)?.change(Change::Cut(size));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.drive.lock();
        state.waiting += 1;
        self.drive.0.changed.notify_all();
        while state.held && !state.off {
            self.drive.0.changed.wait(&mut state);
        }
        state.waiting -= 1;
        state.operate()?;
        let failing = State::fault(&mut state.failing_syncs, &self.name);
        let inode = state.inode(self.number)?;
        if failing {
            inode.pending.clear();
            return Err(io::Error::other("the disk failed to sync"));
        }
        inode.sync();
        let name = self.name.clone();
        state.event(|| Event::Synced(name));
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        let mut state = self.drive.lock();
        state.powered()?;
        let inode = state.inode(self.number)?;
        if inode.pending.is_empty() {
            inode.now.clone_from(&inode.on_disk);
        }
        Ok(())
    }
}
