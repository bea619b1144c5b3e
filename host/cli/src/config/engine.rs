//! `[engine]`: how components are compiled, and limits for all plugins together. The limits of one
//! plugin are in its manifest.

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use qchost_runtime::Options;
use serde::Deserialize;

use super::mode::Mode;
use super::quantities::{Period, Size};

/// How components are compiled and run. Missing settings have the runtime's defaults.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Engine {
    /// Compile faster to slower code, for development.
    pub baseline: bool,
    /// Maximum concurrent invocations.
    pub invocations: Option<NonZeroU32>,
    /// Maximum memory of all running plugins together.
    pub memory: Option<Size>,
    /// Maximum queued invocations of one plugin.
    pub queue: Option<usize>,
    /// Maximum size of a component.
    pub component: Option<Size>,
    /// Limit on processor time for compiling a component.
    pub compile_cpu: Option<Period>,
    /// Limit on memory for compiling a component.
    pub compile_memory: Option<Size>,
    /// How long invocations of a replaced or removed plugin may continue.
    pub drain: Option<Period>,
}

impl Engine {
    /// The baseline compiler had sandbox escapes, so it must not run plugins with money at stake.
    pub fn check(&self, mode: Mode) -> Result<()> {
        ensure!(
            !self.baseline || mode == Mode::Development,
            "engine.baseline: the baseline compiler is for development; take it out, or set mode = \"development\""
        );
        Ok(())
    }

    /// Applies the settings that are present.
    pub fn apply(&self, options: &mut Options) {
        let Self {
            baseline,
            invocations,
            memory,
            queue,
            component,
            compile_cpu,
            compile_memory,
            drain,
        } = *self;
        options.baseline = baseline;
        set(&mut options.invocations, invocations.map(NonZeroU32::get));
        set(&mut options.memory, memory.map(|size| size.0));
        set(&mut options.queue, queue);
        set(&mut options.component, component.map(|size| size.0));
        set(&mut options.compile_cpu, compile_cpu.map(|period| period.0));
        set(
            &mut options.compile_memory,
            compile_memory.map(|size| size.0),
        );
        set(&mut options.drain, drain.map(|period| period.0));
    }

    /// Maximum bytes of a component.
    pub fn max_component(&self) -> u64 {
        self.component.map_or(Options::MAX_COMPONENT, |size| size.0)
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}
