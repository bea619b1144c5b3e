//! The reconciler itself: looks, unloads, loads, and writes the table.
//!
//! Invariants: looks are sequential, so that none is overtaken by older findings. While one waits for something slow,
//! removed plugins are unloaded nevertheless. During shutdown nothing is loaded any more, and rights that the files remove
//! are still removed from what runs. A load that completed just before it was cancelled counts as completed, so it is
//! always known what serves.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Error;
use jiff::Timestamp;
use qchost_gate::{PendingApproval, RefusalKind};
use qchost_policy::Manifest;
use qchost_runtime::Plugin;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::configuration::{Changes, Configuration};
use super::load::{FinishedLoad, Outcome, Retry, load, spawn};
use super::plan::{Candidate, Plan, plan};
use super::scan::{Scan, ScannedManifest, scan};
use super::tracked::{Loading, Tracked, problem};
use super::watching::{RESCAN_INTERVAL, Watching};
use crate::exit_status::ErrorKind;
use crate::file_table::Problem;
use crate::fingerprint::MIN_FILE_AGE;
use crate::host::Host;
use crate::manifests;
use crate::output::words;
use crate::pulse::{Pulse, answer};
use crate::reload_trigger::{ReloadRequest, ReloadTrigger};

/// Maximum concurrent loads. The runtime keeps a few components in memory at a time, and compiles a few side by side; those
/// that wait for a compiler do not delay those that need none.
const MAX_LOADS: usize = 256;
/// Maximum consecutive looks while each finds places that must be watched first.
const MAX_RESCANS: usize = 4;

/// Keeps what serves consistent with the files.
pub struct Reconciler {
    host: Arc<Host>,
    configuration: Configuration,
    manifests: BTreeMap<PathBuf, Tracked>,
    load_permits: Arc<Semaphore>,
    attempts: u64,
    finished_sender: mpsc::UnboundedSender<FinishedLoad>,
    finished: mpsc::UnboundedReceiver<FinishedLoad>,
    requests: mpsc::UnboundedReceiver<ReloadRequest>,
    pulses: mpsc::UnboundedReceiver<Pulse>,
    /// Clients that wait until all changes found are done.
    waiters: Vec<oneshot::Sender<()>>,
    watching: Watching,
    /// Where files are, or may appear.
    watched: Vec<PathBuf>,
    /// Notified when the first look is done; the receiver reports its problems.
    started: Option<oneshot::Sender<()>>,
    /// Whether an invalid file gets time to be completed.
    defer_young_files: bool,
    /// Whether a file is being written.
    unfinished: bool,
    /// Whether something changed during the last look, which then handled removals only.
    rescan_due: bool,
}

/// What wakes the reconciler.
enum Wake {
    Changed,
    Due,
    /// A configuration can be applied.
    Prepared,
    Requested(ReloadRequest),
    /// The watchdog asks whether it works.
    Asked(Pulse),
    LoadFinished(FinishedLoad),
    /// The host shuts down.
    Ending,
}

impl Reconciler {
    /// Creates the reconciler of this host, which sends its reload requests here from now on.
    pub fn new(host: Arc<Host>) -> Self {
        let (trigger, requests, pulses) = ReloadTrigger::new();
        host.follow(trigger);
        let (finished_sender, finished) = mpsc::unbounded_channel();
        Self {
            host,
            configuration: Configuration::default(),
            manifests: BTreeMap::new(),
            load_permits: Arc::new(Semaphore::new(MAX_LOADS)),
            attempts: 0,
            finished_sender,
            finished,
            requests,
            pulses,
            waiters: Vec::new(),
            watching: Watching::default(),
            watched: Vec::new(),
            started: None,
            defer_young_files: false,
            unfinished: false,
            rescan_due: false,
        }
    }

    /// Makes what serves consistent with the files once.
    pub async fn reconcile_once(&mut self) {
        self.look(Instant::now()).await;
        while self.manifests.values().any(|it| it.loading.is_some()) {
            if let Some(finished) = self.finished.recv().await {
                self.settle(&finished).await;
            }
        }
        self.note_loaded().await;
        self.end_adopting().await;
    }

    /// Everything that the files ask for is loaded.
    async fn note_loaded(&mut self) {
        let rows = self.host.table.rows();
        // If the folder cannot be read, it is unknown which manifests were removed.
        let known = self.host.table.files().folder.problem.is_none();
        let stands = |plugin: &str| !known || rows.iter().any(|row| row.claims(plugin));
        let removing = self.host.gate.proposals.remove_missing(stands);
        if let Err(error) = beside(&mut self.pulses, removing).await {
            tracing::error!(target: "host", %error, "that manifests were taken away cannot be written down");
        }
        self.host.gate.changes.loaded();
    }

    /// What is found from now on is no longer part of a new data folder.
    async fn end_adopting(&mut self) {
        let ending = self.host.gate.proposals.end_adopting();
        if let Err(error) = beside(&mut self.pulses, ending).await {
            tracing::error!(target: "host", %error, "what this data folder adopted cannot be written down");
        }
    }

    /// Makes what serves consistent with the files, notifies `started`, and follows the files until it is dropped; from
    /// `ending` on it loads nothing any more, and requests for a reload get no answer.
    pub async fn run(mut self, started: oneshot::Sender<()>, ending: CancellationToken) {
        self.started = Some(started);
        // Files that are invalid at the start are not being written.
        self.look(Instant::now()).await;
        self.watching = Watching::start();
        self.defer_young_files = true;
        // Changes since the first look were not watched.
        self.look(Instant::now()).await;
        let first = tokio::time::Instant::now() + RESCAN_INTERVAL;
        let mut due = tokio::time::interval_at(first, RESCAN_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.notify_settled().await;
            let wake = tokio::select! {
                () = self.watching.changed() => Wake::Changed,
                () = std::future::ready(()), if self.rescan_due => Wake::Changed,
                () = tokio::time::sleep(MIN_FILE_AGE), if self.unfinished => Wake::Changed,
                Some(finished) = self.finished.recv() => Wake::LoadFinished(finished),
                Some(request) = self.requests.recv() => Wake::Requested(request),
                Some(pulse) = self.pulses.recv() => Wake::Asked(pulse),
                () = self.configuration.prepared() => Wake::Prepared,
                () = ending.cancelled(), if !self.load_permits.is_closed() => Wake::Ending,
                _ = due.tick() => Wake::Due,
            };
            let noticed = Instant::now();
            match wake {
                Wake::LoadFinished(finished) => self.settle(&finished).await,
                Wake::Asked(pulse) => answer(pulse),
                Wake::Ending => {
                    self.stop_loading().await;
                    self.waiters.clear();
                    self.look(noticed).await;
                }
                Wake::Changed | Wake::Prepared => self.look(noticed).await,
                Wake::Due | Wake::Requested(_) if self.load_permits.is_closed() => {
                    self.look(noticed).await
                }
                Wake::Due => {
                    self.retry(false);
                    self.look(noticed).await;
                }
                Wake::Requested(request) => {
                    self.waiters.extend(request);
                    self.retry(true);
                    self.look(noticed).await;
                }
            }
        }
    }

    /// Notifies the waiting clients if all changes found are done.
    async fn notify_settled(&mut self) {
        let loading = self.manifests.values().any(|it| it.loading.is_some());
        let settled = !loading && !self.unfinished && !self.rescan_due;
        if !settled || self.configuration.is_preparing() {
            return;
        }
        if self.started.is_some() {
            self.note_loaded().await;
            self.end_adopting().await;
        }
        let waiters = mem::take(&mut self.waiters);
        for waiter in self.started.take().into_iter().chain(waiters) {
            // A client may have left, and then needs no answer.
            waiter.send(()).unwrap_or_default();
        }
    }

    /// Retries what may have become possible without a change of a file; if a client `requested` it, also what would not be
    /// retried yet.
    fn retry(&mut self, requested: bool) {
        self.configuration.retry(&self.host, requested);
        let now = Instant::now();
        for tracked in self.manifests.values_mut() {
            tracked.retry(requested, now);
        }
    }

    /// Looks at everything, and starts the resulting work.
    async fn look(&mut self, noticed: Instant) {
        for _ in 0..MAX_RESCANS {
            self.rescan_due = false;
            let watching = self.watching.set(&self.watched);
            beside(&mut self.pulses, watching).await;
            let mut found = self.scan().await;
            let mut watched = mem::take(&mut found.watched);
            // Removals are applied before anything else is examined.
            self.apply_scan(found).await;
            let result = self.configure().await;
            self.unfinished |= result.unfinished;
            watched.extend(self.configuration.watched(&self.host));
            watched.sort();
            watched.dedup();
            if watched == self.watched && !result.changed && !self.rescan_due {
                break;
            }
            self.watched = watched;
        }
        self.begin(noticed).await;
        // A cancelled load may have completed just before.
        self.unload(&self.plan().unload);
        self.update_table();
    }

    /// Looks at the configuration and the guardrails. Applying them takes long with many plugins.
    async fn configure(&mut self) -> Changes {
        let (host, defer_young_files) = (Arc::clone(&self.host), self.defer_young_files);
        let mut configuration = mem::take(&mut self.configuration);
        let looking = async move {
            let result = configuration.look(&host, defer_young_files).await;
            (configuration, result)
        };
        let (configuration, result) = self.meanwhile(looking).await;
        self.configuration = configuration;
        result
    }

    /// Waits for something slow. Meanwhile, removals are applied at once, and all other changes are examined afterwards.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.watching.changed() => {}
                Some(pulse) = self.pulses.recv() => {
                    answer(pulse);
                    continue;
                }
            }
            self.rescan_due = true;
            let found = self.scan().await;
            self.apply_scan(found).await;
        }
    }

    async fn scan(&mut self) -> Scan {
        let folder = self.host.current().config.plugins();
        let known: BTreeMap<_, _> = self
            .manifests
            .iter()
            .map(|(path, tracked)| (path.clone(), tracked.scanned.clone()))
            .collect();
        let defer_young_files = self.defer_young_files;
        let former = known.clone();
        let scanning =
            tokio::task::spawn_blocking(move || scan(&folder, &known, defer_young_files));
        beside(&mut self.pulses, scanning)
            .await
            .unwrap_or_else(|error| Scan {
                scanned: former,
                watched: self.watched.clone(),
                problem: Some(error.into()),
                unfinished: true,
            })
    }

    /// Stores the findings, and unloads at once what has no manifest any more.
    async fn apply_scan(&mut self, found: Scan) {
        self.unfinished = found.unfinished;
        self.note_folder_problem(found.problem.as_ref());
        let mut former = mem::take(&mut self.manifests);
        for (path, scanned) in found.scanned {
            let tracked = match former.remove(&path) {
                Some(mut tracked) => {
                    tracked.scanned = scanned;
                    tracked
                }
                None => Tracked::new(scanned, &path),
            };
            self.manifests.insert(path, tracked);
        }
        self.unload(&self.plan().unload);
        self.update_table();
        let gone = former.into_values().filter_map(|it| it.loading);
        let renamed = self.manifests.values_mut().filter_map(|tracked| {
            let wanted = tracked.scanned.file.name.as_deref();
            let loads = tracked.loading.as_ref().map(|it| it.plugin.as_str());
            (loads != wanted).then(|| tracked.interrupt()).flatten()
        });
        for loading in gone.chain(renamed).collect::<Vec<_>>() {
            beside(&mut self.pulses, loading.stop()).await;
        }
        // A load of a removed one may have completed just before.
        self.unload(&self.plan().unload);
    }

    fn unload(&mut self, plugins: &BTreeSet<String>) {
        let mut unloaded = false;
        for plugin in plugins {
            if self.host.runtime.unload(plugin) {
                unloaded = true;
                tracing::info!(target: "host", %plugin, "unloaded: no manifest stands for it any more");
            }
            for tracked in self.manifests.values_mut() {
                if tracked.serving.as_ref() == Some(plugin) {
                    tracked.release();
                }
            }
        }
        if unloaded {
            self.names_freed();
        }
    }

    /// A version that served does not any more: what wants one of its names is tried again.
    fn names_freed(&mut self) {
        for tracked in self.manifests.values_mut() {
            self.rescan_due |= tracked.name_freed();
        }
    }

    fn plan(&self) -> Plan {
        let current = self.host.current();
        let served = self.host.runtime.plugins();
        let barred: BTreeSet<_> = served
            .iter()
            .filter(|it| manifests::may_serve(it.manifest(), &current.config).is_err())
            .map(|plugin| plugin.name())
            .collect();
        let candidates: Vec<_> = self
            .manifests
            .iter()
            .map(|(path, tracked)| {
                let manifest = tracked.scanned.file.manifest.as_ref().ok();
                let fitting = manifest.filter(|it| manifests::fits(it, &current.config).is_ok());
                Candidate {
                    path,
                    plugin: fitting.map(|manifest| manifest.plugin.as_str()),
                    serving: tracked.serving.as_deref().filter(|it| !barred.contains(it)),
                    failed: tracked.is_tried() && tracked.failure.is_some(),
                }
            })
            .collect();
        plan(&candidates, served.iter().map(|plugin| plugin.name()))
    }

    /// Starts the loads that are due, and cancels those that are obsolete.
    async fn begin(&mut self, noticed: Instant) {
        let plan = self.plan();
        let current = self.host.current();
        let preparing = self.configuration.is_preparing();
        let paths: Vec<PathBuf> = self.manifests.keys().cloned().collect();
        for path in paths {
            let Some(tracked) = self.manifests.get_mut(&path) else {
                continue;
            };
            let scanned = tracked.scanned.clone();
            tracked.waits = false;
            let obstacle = match &scanned.file.manifest {
                Err(wrong) => Some(wrong.clone()),
                Ok(manifest) => match manifests::fits(manifest, &current.config) {
                    Err(error) => {
                        tracked.waits = preparing;
                        Some(words(&error))
                    }
                    Ok(()) => plan.contested.get(&path).map(|other| {
                        format!(
                            "{}: another manifest is for the plugin `{}` too, {}; take one away",
                            path.display(),
                            manifest.plugin,
                            other.display()
                        )
                    }),
                },
            };
            let former = mem::replace(&mut tracked.obstacle, obstacle);
            // What it does not allow is denied already, although it cannot be loaded; and allowed again if it is what
            // serves.
            if let Ok(manifest) = &scanned.file.manifest
                && tracked.serving.as_ref() == Some(&manifest.plugin)
                && (former.is_some() || tracked.obstacle.is_some())
            {
                let (gate, manifest) = (self.host.gate.clone(), manifest.clone());
                let restricted = self.meanwhile(gate.policies.restrict(manifest)).await;
                if let Err(error) = restricted
                    && let Some(tracked) = self.manifests.get_mut(&path)
                {
                    tracked.obstacle = Some(words(&error.into()));
                }
            }
            // It may be removed or changed by now, which the next look handles.
            let tracked = self.manifests.get_mut(&path);
            let Some(tracked) = tracked.filter(|it| it.scanned.is_same(&scanned)) else {
                continue;
            };
            let wanted = match &scanned.file.manifest {
                Ok(manifest) if tracked.obstacle.is_none() => Some(manifest),
                _ => None,
            };
            if wanted.is_none() || !tracked.is_tried() {
                self.cancel_load(&path).await;
            }
            if let Some(manifest) = wanted {
                self.load(&path, &scanned, manifest, noticed);
            }
        }
    }

    /// Updates the table, and logs new problems.
    fn update_table(&mut self) {
        let mut rows = BTreeMap::new();
        let log = self.defer_young_files && self.started.is_none();
        for (path, tracked) in &mut self.manifests {
            tracked.update_row(log);
            rows.insert(path.clone(), tracked.row.clone());
        }
        self.host.table.files().manifests = rows;
    }

    fn note_folder_problem(&self, problem: Option<&Error>) {
        let problem = problem.map(words);
        let mut files = self.host.table.files();
        if let Some(reason) = &problem
            && files.folder.problem != problem
        {
            files.folder.failures += 1;
            tracing::error!(target: "host", "{reason}; what was loaded from it keeps serving");
        }
        files.folder.problem = problem;
    }
}

impl Reconciler {
    /// Loads a manifest, unless it is loaded or being loaded, or has failed in its current form.
    fn load(
        &mut self,
        path: &Path,
        scanned: &ScannedManifest,
        manifest: &Manifest,
        noticed: Instant,
    ) {
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        // One whose folders were moved or made again is loaded again, which opens those that are there now.
        let has_folders = |plugin: Arc<Plugin>| plugin.has_folders_in_place();
        let plugin = self.host.runtime.plugin(&manifest.plugin);
        let serves =
            tracked.serving.as_ref() == Some(&manifest.plugin) && plugin.is_none_or(has_folders);
        let settled = tracked.loading.is_some() || tracked.failure.is_some() || serves;
        if tracked.is_tried() && settled {
            return;
        }
        self.attempts += 1;
        let attempt = self.attempts;
        let plugin = manifest.plugin.clone();
        let former = self.host.runtime.plugin(&plugin);
        let work = load(
            self.host.runtime.clone(),
            self.host.gate.clone(),
            manifest.clone(),
            Arc::clone(&self.load_permits),
            self.defer_young_files,
        );
        let finished = FinishedLoad {
            path: path.to_owned(),
            attempt,
        };
        let task = spawn(work, self.finished_sender.clone(), finished);
        tracked.tried = Some(scanned.clone());
        tracked.failure = None;
        tracked.loading = Some(Loading {
            attempt,
            begun: noticed,
            plugin,
            former,
            task,
        });
    }

    /// Handles the outcome of a load.
    async fn settle(&mut self, FinishedLoad { path, attempt }: &FinishedLoad) {
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        let Some(loading) = tracked.loading.take_if(|it| it.attempt == *attempt) else {
            return;
        };
        let ended = beside(&mut self.pulses, loading.task).await;
        match ended {
            Ok(Outcome::Loaded(plugin, pending)) => {
                self.loaded(path, &plugin, loading.former.as_ref(), loading.begun);
                self.hold(path, &plugin, pending);
            }
            Ok(Outcome::Failed(error)) => {
                let retry = Retry::of(&error);
                tracked.fail(problem(path, error), retry, Instant::now());
            }
            Ok(Outcome::Ending) => {}
            Ok(Outcome::Changed) => {
                tracked.tried = None;
                self.unfinished = true;
            }
            Err(stopped) => {
                let reason = format!(
                    "{}: the host itself failed while it loaded this: {stopped}",
                    path.display()
                );
                let problem = Problem {
                    kind: ErrorKind::Failed,
                    reason,
                    approval: None,
                };
                tracked.fail(problem, Retry::Late, Instant::now());
            }
        }
        // A manifest was to replace it, and could not.
        self.unload(&self.plan().unload);
        self.update_table();
    }

    /// Notes which part of a manifest awaits approval, if any; an approval triggers a retry.
    fn hold(&mut self, path: &Path, plugin: &Plugin, pending: Option<PendingApproval>) {
        let (Some(pending), Some(tracked)) = (pending, self.manifests.get_mut(path)) else {
            return;
        };
        let reason = format!(
            "{}: serves {}; {}",
            path.display(),
            plugin.description().version,
            pending.words()
        );
        let problem = Problem {
            kind: ErrorKind::Refusal(RefusalKind::ApprovalRequired),
            reason,
            approval: Some(pending.approval),
        };
        tracked.fail(problem, Retry::Soon, Instant::now());
    }

    fn loaded(
        &mut self,
        path: &Path,
        plugin: &Arc<Plugin>,
        former: Option<&Arc<Plugin>>,
        begun: Instant,
    ) {
        for tracked in self.manifests.values_mut() {
            if tracked.serving.as_deref() == Some(plugin.name()) {
                tracked.serving = None;
            }
        }
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        tracked.serving = Some(plugin.name().to_owned());
        if former.is_some_and(|former| Arc::ptr_eq(former, plugin)) {
            return;
        }
        tracked.row.loaded = Some(Timestamp::now().as_millisecond());
        let took = begun.elapsed().as_millis();
        match former {
            Some(former) => tracing::info!(
                target: "host",
                plugin = plugin.name(),
                from = former.digest(),
                to = plugin.digest(),
                "reloaded in {took} ms"
            ),
            None => tracing::info!(
                target: "host",
                plugin = plugin.name(),
                digest = plugin.digest(),
                "loaded in {took} ms"
            ),
        }
        if former.is_some() {
            self.names_freed();
        }
    }

    /// Cancels the running loads, and limits later ones to the removal of rights.
    async fn stop_loading(&mut self) {
        self.load_permits.close();
        let paths: Vec<PathBuf> = self.manifests.keys().cloned().collect();
        for path in paths {
            self.cancel_load(&path).await;
        }
    }

    /// Cancels the load of a manifest, including a running compiler. It may have completed just before.
    async fn cancel_load(&mut self, path: &Path) {
        let tracked = self.manifests.get_mut(path);
        let Some(loading) = tracked.and_then(Tracked::interrupt) else {
            return;
        };
        let (begun, former) = (loading.begun, loading.former.clone());
        let stopped = beside(&mut self.pulses, loading.stop()).await;
        if let Some(Outcome::Loaded(plugin, pending)) = stopped {
            self.loaded(path, &plugin, former.as_ref(), begun);
            self.hold(path, &plugin, pending);
        }
    }
}

/// Waits for something that may wait for the disk, and answers the watchdog meanwhile: a restart mends no file system that
/// hangs, and may cut off calls that were sent.
async fn beside<T>(
    pulses: &mut mpsc::UnboundedReceiver<Pulse>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(pulse) = pulses.recv() => answer(pulse),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::pulse::Pulses;

    #[tokio::test]
    async fn the_watchdog_is_answered_while_something_waits_for_the_disk() {
        let (pulses, mut asked) = Pulses::new();
        let disk = Notify::new();
        let slow = beside(&mut asked, disk.notified());
        let watchdog = async {
            for _ in 0..3 {
                assert!(pulses.ask().await);
            }
            disk.notify_one();
        };
        tokio::join!(slow, watchdog);
    }
}
