//! One run of a component: a fresh instance, fully metered, and dropped at the end.
//!
//! Invariant: whatever the guest does, this returns: when its processor time is used up, when its wall-clock time is, or at
//! a trap. Its store is dropped then, with everything in it.

use std::pin::pin;
use std::time::{Duration, Instant};

use qchost_traffic::{CpuExceeded, CpuLimit};
use rustix::io::Errno;
use wasmtime::component::{self, InstancePre, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::engine::Machine;
use crate::instance::{Instance, MAX_HANDLES};
use crate::limits::ExceededLimit;
use crate::text;

/// Maximum bytes of a trap's message.
const MAX_MESSAGE: usize = 600;

/// The cause and the remedy of a guest that calls out while it receives a value: Go's runtime does, when it collects.
const COLLECTS_IN_A_CALL: &str = "it called the host while it received a value, as Go does when its collector starts there: turn the collector off with `debug.SetGCPercent(-1)`, and call `runtime.GC()` at the start of an action";

/// Why a run was stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// The guest failed: a panic, an unreachable instruction, a stack that is used up.
    #[error("it failed: {0}")]
    Trap(String),
    /// It requested more memory than its manifest allows.
    #[error("it wanted more memory than the {limit} bytes of `limits.memory`")]
    OutOfMemory {
        /// The limit, in bytes.
        limit: u64,
    },
    /// All plugins together requested more memory than the host allows, or this one more than its share of what is free.
    #[error(
        "what the host has for plugins is used up, or this plugin has as much of it as there is free for others; try again, or allow the host more"
    )]
    HostOutOfMemory,
    /// It used up its processor time.
    #[error("it used up the {} s on the processor of `limits.cpu`", limit.as_secs_f64())]
    Cpu {
        /// The limit.
        limit: Duration,
    },
    /// It used up its wall-clock time.
    #[error("it was not done after the {} s of `limits.wall`; calls that it had sent go on, and their outcomes are in the log", limit.as_secs_f64())]
    Wall {
        /// The limit.
        limit: Duration,
        /// Whether the guest itself is to blame: it was not queued for most of the time, and did not wait for an external
        /// event in the last tenth of it.
        hung: bool,
    },
    /// It passed too much data to the host at a time.
    #[error("it handed the host more than {limit} bytes at a time")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The host runs the maximum number of plugins.
    #[error("the host runs as many plugins as it can; try again")]
    NoRoom,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) memory: u64,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Bytes that the guest may pass to the host at a time.
    pub(crate) transfer: u64,
}

/// Creates an instance, calls it and drops it.
pub(crate) async fn run<T>(
    machine: &Machine,
    code: &InstancePre<Instance>,
    instance: Instance,
    allowance: Allowance,
    call: impl AsyncFnOnce(&component::Instance, &mut Store<Instance>) -> wasmtime::Result<T>,
) -> Result<T, StopReason> {
    let deadline = instance.clock.deadline;
    let calls = instance.calls.clone();
    let cpu = CpuLimit::new(allowance.cpu);
    let mut store = Store::new(&machine.engine, instance);
    store.limiter(|instance| &mut instance.memory);
    store.set_hostcall_fuel(usize::try_from(allowance.transfer).unwrap_or(usize::MAX));
    store.set_max_component_handles(MAX_HANDLES);
    store.set_epoch_deadline(1);
    let watched = cpu.clone();
    store.epoch_deadline_callback(move |store| {
        watched.check(store.data().calls.gate_cpu())?;
        Ok(UpdateDeadline::Yield(1))
    });

    let ticking = machine.tick();
    let begun = Instant::now();
    // Epochs do not reach a guest that waits inside a call of the host; this time-out does.
    let ended = {
        let mut work = pin!(async {
            let instance = code.instantiate_async(&mut store).await?;
            call(&instance, &mut store).await
        });
        let mut measured = pin!(cpu.measure(work.as_mut()));
        // Outside of what is measured: the gate charges its time itself.
        let driven = calls.driver().drive(measured.as_mut());
        let ended = tokio::time::timeout_at(deadline.into(), driven).await;
        // Checked before the future that it waits in is dropped.
        ended.map_err(|_| {
            let Allowance { wall, .. } = allowance;
            let had = deadline.saturating_duration_since(begun);
            StopReason::Wall {
                limit: wall,
                hung: had >= wall / 2 && !calls.waited(wall / 10),
            }
        })
    };
    drop(ticking);
    let outcome = match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(stopped(&error, store.data(), allowance)),
        Err(stopped) => Err(stopped),
    };
    let calls = &store.data().calls;
    let spent = cpu.spent() + calls.gate_cpu();
    calls.guest_ended(spent);
    tracing::info!(
        plugin = &*calls.version_context().plugin,
        invocation = &**calls.invocation(),
        cpu_us = spent.as_micros(),
        wall_us = begun.elapsed().as_micros(),
        stopped = outcome.as_ref().err().map(tracing::field::display),
        "ran"
    );
    outcome
}

/// Classifies an error of the engine.
fn stopped(error: &wasmtime::Error, instance: &Instance, allowance: Allowance) -> StopReason {
    if error.downcast_ref::<CpuExceeded>().is_some() {
        return StopReason::Cpu {
            limit: allowance.cpu,
        };
    }
    match instance.memory.exceeded() {
        Some(ExceededLimit::Own) => {
            return StopReason::OutOfMemory {
                limit: allowance.memory,
            };
        }
        Some(ExceededLimit::Host) => return StopReason::HostOutOfMemory,
        None => {}
    }
    // No slot in the pool, or no kernel mapping left for its content.
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some()
        || error.downcast_ref() == Some(&Errno::NOMEM)
    {
        return StopReason::NoRoom;
    }
    let root = error.root_cause().to_string();
    // The engine's error for this has no public type.
    if root.contains("fuel allocated for hostcalls") {
        return StopReason::TooLarge {
            limit: allowance.transfer,
        };
    }
    let what = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!(
            "it exited with status {}; an action returns an output or a failure, and does not call `exit`",
            exit.0
        )
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        match trap {
            Trap::StackOverflow => "its stack is used up: it recurses too deeply".to_owned(),
            Trap::CannotLeaveComponent => format!("{trap}; {COLLECTS_IN_A_CALL}"),
            trap => trap.to_string(),
        }
    } else if matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        || root.ends_with("store handle limit exceeded")
    {
        format!("it holds more handles than the {MAX_HANDLES} that it may")
    } else {
        root
    };
    let function = error
        .downcast_ref::<WasmBacktrace>()
        .and_then(|trace| trace.frames().first())
        .and_then(|frame| frame.func_name())
        .map_or_else(String::new, |name| {
            format!(" in `{}`", text::line(name, 120))
        });
    let words = match instance.lines.last_output() {
        words if words.is_empty() => words,
        words => format!("; it said: {words}"),
    };
    StopReason::Trap(text::line(&format!("{what}{function}{words}"), MAX_MESSAGE))
}
