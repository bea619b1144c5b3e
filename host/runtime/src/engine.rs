//! The engine: compiles components and holds their instances.
//!
//! Every invocation has a fresh instance, so instances come from a pool of address space that is reserved once. Where there
//! is too little address space for a pool, each instance is allocated when it is needed, with code that checks each access
//! to memory instead of relying on reserved address space.
//! A dedicated thread advances the epoch every millisecond, which makes every guest yield: guests in endless
//! loops share the processors with all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};

use crate::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use crate::running::{Running, RunningCount};
use crate::start_error::StartError;

/// Interval of the epoch.
const EPOCH_INTERVAL: Duration = Duration::from_millis(1);
/// Ticks after the last invocation before the thread sleeps until the next one.
const MAX_IDLE_TICKS: u32 = 50;
/// Stack of a guest. Deeper recursion is a trap.
const MAX_STACK: usize = 1 << 20;
/// Stack of its fibre: the guest's, plus what the host needs.
const FIBRE_STACK: usize = 2 << 20;
/// Bytes of a memory, table or stack that stay mapped between two instances, which saves work in the kernel. The
/// rest is released as soon as an instance ends rather than in batches: memory that waits for release is in no
/// budget, and six plugins with 192 MiB each had left more than a gigabyte.
const MAX_RESIDENT: usize = 128 << 10;
/// Maximum bytes that stay mapped this way when nothing runs.
const MAX_ALL_RESIDENT: usize = 256 << 20;
/// Maximum memories in the address space: 4 GiB and a guard each, below the 85 TiB where the kernel puts the
/// program itself, and above the 6 TiB below which the allocator works.
const MAX_ALL_MEMORIES: u32 = 20_016;
/// Memories per component if there is not enough address space for the maximum of all.
const MIN_MEMORIES: u32 = 2;
/// Maximum elements of one table.
const MAX_ELEMENTS: usize = 100_000;
/// Components that may describe themselves at a time, on a host for as many invocations or more.
const MAX_DESCRIBING: u32 = 4;
/// Maximum bytes that the host keeps for an instance besides its memories.
const MAX_INSTANCE: usize = 4 << 20;
/// Address space in which a memory without a pool grows before it is moved.
const SPARE: u64 = 16 << 20;
/// Address space after such a memory that no code can use.
const GUARD: u64 = 64 << 10;

/// What compiled code depends on. A compiler and the engine that runs its code have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeSettings {
    /// Whether the baseline compiler makes it, or the optimising one.
    pub(crate) baseline: bool,
    /// Whether it checks each access to memory, or relies on address space that is reserved for every possible one.
    pub(crate) checked: bool,
}

/// The engine and the thread that advances its epoch.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    /// The code that it runs.
    pub(crate) code: CodeSettings,
    ticker: Ticker,
}

impl Machine {
    /// An engine for `invocations` concurrent invocations, and for code of the baseline compiler or of the optimising
    /// one. It has a pool for them if the address space has room for one.
    ///
    /// # Errors
    /// When the engine does not support the processor.
    pub(crate) fn new(invocations: u32, baseline: bool) -> Result<Self, StartError> {
        let unchecked = CodeSettings {
            baseline,
            checked: false,
        };
        let mut config = settings(unchecked);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(invocations)));
        let (engine, code) = match Engine::new(&config) {
            Ok(engine) => (engine, unchecked),
            Err(error) => {
                let checked = CodeSettings {
                    baseline,
                    checked: true,
                };
                // Fails too if the pool is not the problem.
                let engine = compiling(checked).map_err(StartError::Engine)?;
                tracing::warn!(
                    "a pool for {invocations} invocations does not fit into the address space ({error:#}), so plugins run \
                     slower without one; lower `engine.invocations`, or raise the limits on address space (`ulimit -v`) \
                     and on mappings (`vm.max_map_count`)"
                );
                (engine, checked)
            }
        };
        let ticker =
            Ticker::start(engine.clone()).map_err(|error| StartError::Engine(error.into()))?;
        Ok(Self {
            engine,
            code,
            ticker,
        })
    }

    /// Keeps the epoch advancing while the guard lives.
    pub(crate) fn tick(&self) -> Running<'_> {
        let shared = &self.ticker.shared;
        // Each side first stores its own state and then reads the other's, so neither misses a change.
        let running = shared.running.begin();
        if shared.parked.load(Ordering::SeqCst) {
            self.ticker.thread.unpark();
        }
        running
    }

    /// Waits until the epoch has advanced: the thread that makes every guest yield runs. Never returns if it does not.
    pub(crate) async fn advanced(&self) {
        let ticking = self.tick();
        let ticks = &self.ticker.shared.ticks;
        let begun = ticks.load(Ordering::Acquire);
        while ticks.load(Ordering::Acquire) == begun {
            tokio::time::sleep(EPOCH_INTERVAL).await;
        }
        drop(ticking);
    }
}

/// An engine that compiles for the host's engine but runs nothing: it has no pool, which would exceed the memory
/// limit of a compiler.
pub(crate) fn compiling(code: CodeSettings) -> wasmtime::Result<Engine> {
    Engine::new(&settings(code))
}

/// How many components may describe themselves at a time: no more than may be invoked, so that the pool of a small host is
/// small.
pub(crate) fn max_describing(invocations: u32) -> u32 {
    invocations.clamp(1, MAX_DESCRIBING)
}

/// Settings that compiled code depends on, or that all engines share.
fn settings(code: CodeSettings) -> Config {
    let mut config = Config::new();
    config
        .strategy(if code.baseline {
            Strategy::Winch
        } else {
            Strategy::Cranelift
        })
        .wasm_component_model(true)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .epoch_interruption(true)
        // A trap names its function, which needs none of these. They would add a seventh to the code, and the
        // default of the first depends on the environment, which a compiler does not have.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false)
        .max_wasm_stack(MAX_STACK)
        .async_stack_size(FIBRE_STACK);
    if code.checked {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(SPARE)
            .memory_guard_size(GUARD)
            .guard_before_linear_memory(false);
    }
    config
}

/// Pool of instances, with room for `invocations` concurrent invocations.
///
/// Each may reach every limit of a component, so that none takes room from others; only memories are scarcer
/// with thousands of invocations. The pool is address space: it costs memory only when used. An invocation that
/// waits in a call of the host takes up to six of the kernel's mappings (two for its stack, four for its
/// memory), of which a process has 65,530 by default (`vm.max_map_count`).
fn pool(invocations: u32) -> PoolingAllocationConfig {
    // Twice as many describe themselves, since the instance of one that is done may not have been dropped yet.
    let components = invocations.saturating_add(2 * max_describing(invocations));
    let each = MAX_ALL_RESIDENT / 3 / usize::try_from(components).unwrap_or(usize::MAX);
    let resident = MAX_RESIDENT.min(each);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(components)
        .total_stacks(components)
        .total_core_instances(components.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(
            components
                .saturating_mul(MAX_MEMORIES)
                .min(MAX_ALL_MEMORIES)
                .max(components.saturating_mul(MIN_MEMORIES)),
        )
        .total_tables(components.saturating_mul(MAX_TABLES))
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memories_per_module(MAX_MEMORIES)
        .max_tables_per_module(MAX_TABLES)
        .table_elements(MAX_ELEMENTS)
        .max_core_instance_size(MAX_INSTANCE)
        .max_component_instance_size(MAX_INSTANCE)
        // Resets only written pages, if the kernel (6.7 and later) can report them: a Rust guest writes a few in
        // the middle of its memory. Otherwise its pages are unmapped and faulted in again for each invocation,
        // which interrupts every processor.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(resident)
        .table_keep_resident(resident)
        .async_stack_keep_resident(resident);
    pool
}

/// The thread that advances the epoch.
struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Running invocations.
    running: RunningCount,
    /// How often the epoch advanced.
    ticks: AtomicU64,
    /// Whether the thread is parked.
    parked: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    /// Ticks until the engine ends. Waking a thread costs as much as a small invocation, so it continues for a
    /// while when nothing runs.
    fn run(&self, engine: &Engine) {
        let mut idle = 0;
        while !self.ended.load(Ordering::Acquire) {
            thread::sleep(EPOCH_INTERVAL);
            engine.increment_epoch();
            self.ticks.fetch_add(1, Ordering::Release);
            if self.running.sum() > 0 {
                idle = 0;
            } else if idle < MAX_IDLE_TICKS {
                idle += 1;
            } else {
                self.parked.store(true, Ordering::SeqCst);
                while self.running.sum() == 0 && !self.ended.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                idle = 0;
            }
        }
    }
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || watched.run(&engine))?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            // It cannot panic, and there is no one to report to.
            drop(handle.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    /// More invocations than any machine has address space for.
    const TOO_MANY: u32 = 1_000_000;

    #[tokio::test]
    async fn a_parked_epoch_advances_for_a_caller_that_waits() {
        let machine = Machine::new(1, false).unwrap();
        let parked = &machine.ticker.shared.parked;
        while !parked.load(Ordering::SeqCst) {
            tokio::time::sleep(EPOCH_INTERVAL).await;
        }
        machine.advanced().await;
    }

    #[test]
    fn a_compiler_without_a_pool_compiles_for_the_host() {
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let kinds = [(4, false), (4, true), (TOO_MANY, false), (TOO_MANY, true)];
        let hashes = kinds.map(|(invocations, baseline)| {
            let machine = Machine::new(invocations, baseline).unwrap();
            let compiler = compiling(machine.code).unwrap();
            assert_eq!(hash(&machine.engine), hash(&compiler));
            hash(&compiler)
        });
        let apart = hashes.iter().collect::<HashSet<_>>();
        assert_eq!(apart.len(), 4, "their code is kept apart");
    }

    #[test]
    fn there_is_room_for_a_pool_for_ten_thousand_and_none_for_too_many() {
        for (invocations, checked) in [(10_000, false), (TOO_MANY, true)] {
            let machine = Machine::new(invocations, false).unwrap();
            assert_eq!(machine.code.checked, checked, "{invocations}");
        }
    }

    /// Each memory is 4 GiB of address space and a guard.
    #[test]
    fn the_pool_of_a_small_host_is_small() {
        for (invocations, components) in [(1, 3), (2, 6), (128, 136)] {
            let memories = pool(invocations).get_total_memories();
            assert_eq!(memories, components * MAX_MEMORIES, "{invocations}");
        }
    }
}
