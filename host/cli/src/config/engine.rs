//! `[engine]`: how components are compiled, and what all plugins together may use. What one plugin may
//! use stands in its manifest.

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use qchost_runtime::Options;
use serde::Deserialize;

use super::{Mode, Period, Size};

/// How components are compiled and run. What is not given is what the runtime holds to be right.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Engine {
    /// Compile faster to code that runs slower, for development.
    pub baseline: bool,
    /// Invocations at a time.
    pub invocations: Option<NonZeroU32>,
    /// Memory of all running plugins together.
    pub memory: Option<Size>,
    /// Invocations of one plugin that may wait for their turn.
    pub queue: Option<usize>,
    /// The largest component.
    pub component: Option<Size>,
    /// Time on the processor that compiling a component may take.
    pub compile_cpu: Option<Period>,
    /// Memory that compiling a component may take.
    pub compile_memory: Option<Size>,
    /// How long invocations of a plugin that was replaced or removed may go on.
    pub drain: Option<Period>,
}

impl Engine {
    /// The baseline compiler had holes that no plugin with money at stake should find.
    pub fn check(&self, mode: Mode) -> Result<()> {
        ensure!(
            !self.baseline || mode == Mode::Development,
            "engine.baseline: the baseline compiler is for development; take it out, or set mode = \"development\""
        );
        Ok(())
    }

    /// Sets what is given.
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
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}
