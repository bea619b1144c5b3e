//! One host per data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long whoever only looks at the lock may hold it.
const GLANCE: Duration = Duration::from_millis(10);

/// The lock; given back when dropped, and when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the data folder, or says who has it.
    pub fn take(data: &Path) -> Result<Self> {
        let path = data.join("host.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut taken = file.try_lock();
        if matches!(taken, Err(TryLockError::WouldBlock)) {
            thread::sleep(GLANCE);
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                drop(file.read_to_string(&mut holder));
                bail!(
                    "a host with process id {} uses {} already; end it, or give this one another `data` folder",
                    holder.trim(),
                    data.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }

    /// Whether another process has the data folder. Nothing changes by it.
    pub fn is_taken(data: &Path) -> bool {
        let file = File::open(data.join("host.lock"));
        // Those who look do not shut each other out, and whoever takes it tries again.
        let looked = file.map(|file| file.try_lock_shared());
        matches!(looked, Ok(Err(TryLockError::WouldBlock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_the_lock_says_whether_it_is_taken_and_takes_it_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_taken(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_taken(folder.path()));
        drop(lock);
        assert!(!Lock::is_taken(folder.path()));
        // A look leaves it as it was.
        drop(Lock::take(folder.path()).unwrap());
    }
}
