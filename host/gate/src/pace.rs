//! How fast lines about a plugin may be written to the log: its own, and those that the host writes of what it
//! tries.
//!
//! Lines are counted for the plugin, over all its invocations: a plugin that runs sixteen times at a time has no
//! more than one that runs once; and for all plugins together. What is left out is said, and said seldom enough that
//! saying it is no flood either.
//!
//! Invariant: whatever a plugin does, and however often it is refused, no more than [`RATE`] lines a second are
//! written about it, and one that says how many were left out; about all of them together no more than [`HOST_RATE`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most lines about a plugin in a second, and at once.
pub const RATE: u32 = 100;
/// The most lines about all plugins of a host in a second, and at once.
pub const HOST_RATE: u32 = 1000;
/// How often it is said that lines were left out.
const NOTICE: Duration = Duration::from_secs(1);

/// How fast lines about a plugin are written.
#[derive(Debug)]
pub struct Pace {
    own: Mutex<Flow>,
    /// That of all plugins together.
    host: Arc<Mutex<Flow>>,
}

/// One by itself, of no host with others.
impl Default for Pace {
    fn default() -> Self {
        HostPace::default().plugin()
    }
}

/// How fast lines about all plugins of a host are written.
#[derive(Debug)]
pub struct HostPace(Arc<Mutex<Flow>>);

impl Default for HostPace {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Flow::new(HOST_RATE))))
    }
}

impl HostPace {
    /// That of one of them.
    #[must_use]
    pub fn plugin(&self) -> Pace {
        Pace {
            own: Mutex::new(Flow::new(RATE)),
            host: Arc::clone(&self.0),
        }
    }
}

impl Pace {
    /// Whether so many lines about this plugin may be written now. Says how many were left out, when it is time to.
    pub fn admits(&self, plugin: &str, lines: u32) -> bool {
        let (admitted, left_out) = {
            let now = Instant::now();
            let mut own = locked(&self.own);
            let admitted = own.admits(lines, now) && {
                let room = locked(&self.host).admits(lines, now);
                own.left_out += u64::from(!room);
                room
            };
            (admitted, own.notice(now))
        };
        report(plugin, left_out);
        admitted
    }

    /// Says how many lines were left out, if any were and it is time to.
    pub fn say(&self, plugin: &str) {
        let left_out = {
            let mut flow = locked(&self.own);
            match flow.left_out {
                0 => None,
                _ => flow.notice(Instant::now()),
            }
        };
        report(plugin, left_out);
    }
}

fn locked(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    flow.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(plugin: &str, left_out: Option<u64>) {
    if let Some(left_out) = left_out {
        tracing::warn!(target: "plugin", plugin, left_out, "more than {RATE} lines in a second, or {HOST_RATE} of all plugins; the rest are left out");
    }
}

#[derive(Debug)]
struct Flow {
    /// Lines a second, and at once.
    rate: u32,
    /// When what was written by now would be due, were it written evenly.
    due: Option<Instant>,
    left_out: u64,
    /// When it was last said that lines were left out.
    said: Option<Instant>,
}

impl Flow {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            due: None,
            left_out: 0,
            said: None,
        }
    }

    /// Whether so many lines may be written now.
    fn admits(&mut self, lines: u32, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / self.rate;
        let due = self.due.map_or(now, |due| due.max(now));
        if due.duration_since(now) + interval * lines > interval * self.rate {
            self.left_out += 1;
            return false;
        }
        self.due = Some(due + interval * lines);
        true
    }

    /// How many lines were left out, if it is time to say so.
    fn notice(&mut self, now: Instant) -> Option<u64> {
        let lately = |said: Instant| now.duration_since(said) < NOTICE;
        if self.left_out == 0 || self.said.is_some_and(lately) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_plugins_together_write_a_thousand_lines_at_once() {
        let host = HostPace::default();
        let plugins: Vec<Pace> = (0..20).map(|_| host.plugin()).collect();
        let begun = Instant::now();
        let written = plugins
            .iter()
            .map(|pace| (0..100).filter(|_| pace.admits("one", 1)).count());
        let written: usize = written.sum();
        let later = usize::try_from(begun.elapsed().as_millis()).unwrap() + 1;
        assert!((1000..=1000 + later).contains(&written), "{written}");
    }

    #[test]
    fn a_plugin_writes_a_hundred_lines_at_once_and_then_one_every_ten_milliseconds() {
        let (mut flow, begun) = (Flow::new(RATE), Instant::now());
        let written = (0..1000).filter(|_| flow.admits(1, begun)).count();
        assert_eq!(written, 100);
        assert_eq!(flow.notice(begun), Some(900));
        let mut written = 0;
        for millisecond in 1..=5000 {
            let now = begun + Duration::from_millis(millisecond);
            written += (0..7).filter(|_| flow.admits(1, now)).count();
        }
        assert_eq!(written, 500);
    }

    #[test]
    fn a_pause_fills_it_up_again_and_no_further() {
        let (mut flow, begun) = (Flow::new(RATE), Instant::now());
        while flow.admits(1, begun) {}
        let later = begun + Duration::from_secs(3600);
        let written = (0..1000).filter(|_| flow.admits(1, later)).count();
        assert_eq!(written, 100);
    }

    #[test]
    fn long_lines_count_as_several() {
        let (mut flow, begun) = (Flow::new(RATE), Instant::now());
        let written = (0..1000).filter(|_| flow.admits(5, begun)).count();
        assert_eq!(written, 20);
    }

    #[test]
    fn what_is_left_out_is_said_once_a_second() {
        let (mut flow, begun) = (Flow::new(RATE), Instant::now());
        assert_eq!(flow.notice(begun), None);
        let mut notices = Vec::new();
        for millisecond in 0..3500 {
            let now = begun + Duration::from_millis(millisecond);
            flow.admits(RATE, now);
            notices.extend(flow.notice(now));
        }
        assert_eq!(notices.len(), 4);
        assert!(notices.iter().sum::<u64>() > 2900, "{notices:?}");
    }
}
