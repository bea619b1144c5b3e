//! The emulators that accounts use, and the files in which they keep their data.
//!
//! Invariant: an account has one emulator at a time, also while its connection is replaced: the new connection uses the one
//! that runs. With a host that was started in production no emulator keeps anything, until it starts again.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use anyhow::{Context as _, Error, Result, anyhow};
use qchost_emulator::{Emulator, Seed, StartError};
use qchost_policy::read_text;

use crate::config::{Config, Mode};
use crate::data_folder::private_folder;
use crate::lock::Lock;

/// The folder for their files in a data folder.
const FOLDER: &str = "emulator";

/// Starts emulators.
pub struct Emulators {
    /// The folder for their files; `None` if they begin afresh.
    folder: Option<PathBuf>,
    /// Whether they only find out whether a host could start, and so keep nothing.
    is_check: bool,
    /// Those that run, by account.
    running: Mutex<BTreeMap<String, Weak<Emulator>>>,
}

impl Emulators {
    /// Emulators of a host, which keep their data in its data folder, except in production.
    pub fn of_host(config: &Config, data: &Path) -> Self {
        Self {
            folder: (config.mode == Mode::Development).then(|| data.join(FOLDER)),
            is_check: false,
            running: Mutex::default(),
        }
    }

    /// Emulators that begin afresh and keep nothing, for a check beside a host that may run. They need what those of the
    /// host need.
    pub fn of_check(config: &Config, data: &Path) -> Self {
        Self {
            is_check: true,
            ..Self::of_host(config, data)
        }
    }

    /// The emulator of an account: the one that runs, or else a new one, which goes on where the last one ended.
    pub async fn start(&self, account: &str, seed: Option<&Path>) -> Result<Arc<Emulator>> {
        let running = self.running.lock().get(account).and_then(Weak::upgrade);
        if let Some(running) = running {
            return Ok(running);
        }
        let file = self.folder.as_ref().map(|folder| file(folder, account));
        let mut builder = Emulator::builder().any_port();
        match seed.map(read_seed) {
            // It is used once: also if an earlier start made the file, and ended before it kept anything.
            Some(Ok(seed)) => builder = builder.seed(seed),
            // After that, its file may be gone.
            Some(Err(error)) if !is_begun(file.clone()).await => return Err(error),
            Some(Err(_)) | None => {}
        }
        if let (Some(folder), Some(file), false) = (&self.folder, file, self.is_check) {
            private_folder(folder)?;
            builder = builder.keep(file);
        }
        let started = builder.start().await;
        let emulator = Arc::new(started.map_err(|error| with_remedy(error, account))?);
        let handle = Arc::downgrade(&emulator);
        self.running.lock().insert(account.to_owned(), handle);
        Ok(emulator)
    }
}

/// Whether an emulator has begun to keep anything in a file, and its seed is in it. One that cannot be read counts: who opens
/// it is told why.
async fn is_begun(file: Option<PathBuf>) -> bool {
    let Some(file) = file else {
        return false;
    };
    let checked = tokio::task::spawn_blocking(move || Emulator::check(&file)).await;
    !matches!(checked, Ok(Ok(false)))
}

fn file(folder: &Path, account: &str) -> PathBuf {
    folder.join(format!("{account}.db"))
}

/// Checks that a host that starts can use what the emulator of an account keeps. While a process has the data folder,
/// nothing is checked. Blocks.
pub fn check(config: &Config, account: &str) -> Result<()> {
    let data = config.data()?;
    if config.mode == Mode::Development && !Lock::is_taken(&data) {
        Emulator::check(&file(&data.join(FOLDER), account))?;
    }
    Ok(())
}

/// The remedy for kept data that cannot be used.
pub fn remedy(account: &str) -> String {
    format!("move it away, or begin afresh: qchost emulator reset --account {account}")
}

/// Begins afresh with what the emulator of an account keeps in a data folder, whose lock the caller holds. Blocks.
pub fn reset(data: &Path, account: &str, seed: Option<&Path>) -> Result<()> {
    let seed = seed.map_or_else(|| Ok(Seed::default()), read_seed)?;
    let folder = data.join(FOLDER);
    private_folder(&folder)?;
    Ok(Emulator::reset(&file(&folder, account), &seed)?)
}

/// Reads a seed, which is TOML.
pub fn read_seed(path: &Path) -> Result<Seed> {
    let text = read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let message = error.message().trim().replace('\n', " ");
        anyhow!("{}: {message}", path.display())
    })
}

fn with_remedy(error: StartError, account: &str) -> Error {
    match error {
        StartError::Data(error) if error.is_mended_by_reset() => {
            anyhow!("{error}; nothing in it was changed; {}", remedy(account))
        }
        error => error.into(),
    }
}
