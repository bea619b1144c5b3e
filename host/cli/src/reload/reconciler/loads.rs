//! The loads of the reconciler: started, completed, and cancelled.
//!
//! Invariant: a load that completed just before it was cancelled counts as completed, so it is always known what
//! serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use qchost_gate::HeldBack;
use qchost_policy::Manifest;
use qchost_runtime::Plugin;

use super::Reconciler;
use crate::reload::load::{Ended, Outcome, Passes, load, spawn};
use crate::reload::scan::Seen;
use crate::reload::table::Problem;
use crate::reload::tracked::{Loading, Tracked, problem};

impl Reconciler {
    /// Loads a manifest, unless it is loaded or being loaded, or has failed in its current form.
    pub(super) fn load(&mut self, path: &Path, seen: &Seen, manifest: &Manifest, noticed: Instant) {
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        let serves = tracked.holds.as_ref() == Some(&manifest.plugin);
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
            Arc::clone(&self.turns),
            self.patience,
        );
        let ended = Ended {
            path: path.to_owned(),
            attempt,
        };
        let task = spawn(work, self.end.clone(), ended);
        tracked.tried = Some(seen.clone());
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
    pub(super) async fn settle(&mut self, Ended { path, attempt }: &Ended) {
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        let Some(loading) = tracked.loading.take_if(|it| it.attempt == *attempt) else {
            return;
        };
        match loading.task.await {
            Ok(Outcome::Loaded(plugin)) => {
                self.loaded(path, &plugin, loading.former.as_ref(), loading.begun);
            }
            Ok(Outcome::Held(plugin, held)) => {
                self.loaded(path, &plugin, loading.former.as_ref(), loading.begun);
                self.hold(path, &plugin, held);
            }
            Ok(Outcome::Failed(error)) => {
                let passes = Passes::of(&error);
                tracked.fail(problem(path, error), passes, Instant::now());
            }
            Ok(Outcome::Ending) => {}
            Ok(Outcome::Moving) => {
                tracked.tried = None;
                self.moving = true;
            }
            Err(stopped) => {
                let reason = format!(
                    "{}: the host itself failed while it loaded this: {stopped}",
                    path.display()
                );
                let approval = None;
                tracked.fail(Problem { reason, approval }, Passes::Late, Instant::now());
            }
        }
        // A manifest was to replace it, and could not.
        self.unload(&self.plan().unload);
        self.write_down();
    }

    /// Notes that a part of a manifest awaits approval; an approval triggers a retry.
    fn hold(&mut self, path: &Path, plugin: &Plugin, held: HeldBack) {
        let reason = format!(
            "{}: serves {}; {}",
            path.display(),
            plugin.description().version,
            held.words()
        );
        if let Some(tracked) = self.manifests.get_mut(path) {
            let approval = Some(held.approval);
            tracked.fail(Problem { reason, approval }, Passes::Soon, Instant::now());
        }
    }

    fn loaded(
        &mut self,
        path: &Path,
        plugin: &Arc<Plugin>,
        former: Option<&Arc<Plugin>>,
        begun: Instant,
    ) {
        for tracked in self.manifests.values_mut() {
            if tracked.holds.as_deref() == Some(plugin.name()) {
                tracked.holds = None;
            }
        }
        let Some(tracked) = self.manifests.get_mut(path) else {
            return;
        };
        tracked.holds = Some(plugin.name().to_owned());
        if former.is_some_and(|former| Arc::ptr_eq(former, plugin)) {
            return;
        }
        tracked.row.loaded = Some(Timestamp::now().as_millisecond());
        tracked.row.loads += 1;
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
    }

    /// Cancels the running loads, and limits later ones to the removal of rights.
    pub(super) async fn stop_loading(&mut self) {
        self.turns.close();
        let paths: Vec<PathBuf> = self.manifests.keys().cloned().collect();
        for path in paths {
            self.cut_off(&path).await;
        }
    }

    /// Cancels the load of a manifest, including a running compiler. It may have completed just before.
    pub(super) async fn cut_off(&mut self, path: &Path) {
        let tracked = self.manifests.get_mut(path);
        let Some(loading) = tracked.and_then(Tracked::interrupt) else {
            return;
        };
        let (begun, former) = (loading.begun, loading.former.clone());
        match loading.stop().await {
            Some(Outcome::Loaded(plugin)) => {
                self.loaded(path, &plugin, former.as_ref(), begun);
            }
            Some(Outcome::Held(plugin, held)) => {
                self.loaded(path, &plugin, former.as_ref(), begun);
                self.hold(path, &plugin, held);
            }
            _ => {}
        }
    }
}
