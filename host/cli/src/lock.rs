//! One host per data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Error};

/// Maximum bytes read of the file, enough for a process id.
const MAX_BYTES: u64 = 32;
/// How long a check of the lock may hold it.
const CHECK_TIMEOUT: Duration = Duration::from_millis(10);

/// Why a data folder cannot be taken.
#[derive(Debug)]
pub enum Refused {
    /// Another process has it: the one whose id is in the lock's file, if that is still right.
    Held(Option<u32>),
    Failed(Error),
}

/// The lock; released when dropped or when the process ends in any way.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// The file that is locked.
    pub fn path(data: &Path) -> PathBuf {
        data.join("host.lock")
    }

    /// Takes the data folder, or returns which process has it.
    pub fn take(data: &Path) -> Result<Self, Refused> {
        let path = Self::path(data);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
            .map_err(Refused::Failed)?;
        let mut taken = file.try_lock();
        if matches!(taken, Err(TryLockError::WouldBlock)) {
            thread::sleep(CHECK_TIMEOUT);
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                drop(file.take(MAX_BYTES).read_to_string(&mut holder));
                let holder = holder.trim().parse().ok();
                // The id of a process that has ended does not identify the current holder.
                let runs = |process: &u32| Path::new(&format!("/proc/{process}")).exists();
                return Err(Refused::Held(holder.filter(runs)));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Refused::Failed(
                    Error::from(error).context(format!("cannot lock {}", path.display())),
                ));
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        // On a full disk the lock is held nevertheless.
        if let Err(error) = written {
            tracing::warn!(target: "host", "{} does not name this process: {error}", path.display());
        }
        Ok(Self(file))
    }

    /// Whether another process has the data folder. Has no effect.
    pub fn is_taken(data: &Path) -> bool {
        let file = File::open(Self::path(data));
        // A shared lock, so that checks do not exclude each other; taking the lock is retried.
        let attempt = file.map(|file| file.try_lock_shared());
        matches!(attempt, Ok(Err(TryLockError::WouldBlock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_the_lock_says_whether_it_is_taken_and_blocks_no_other_process() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_taken(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_taken(folder.path()));
        drop(lock);
        assert!(!Lock::is_taken(folder.path()));
        // A check leaves it unchanged.
        drop(Lock::take(folder.path()).unwrap());
    }
}
