//! Rate limit of log lines about a plugin: its own, and those that the host writes about its calls.
//!
//! Lines are counted per plugin over all its invocations, so that a plugin with sixteen concurrent invocations gets
//! no more than one with a single invocation; and for all plugins together. Omitted lines are reported, seldom enough
//! that the reports are no flood either.
//!
//! Invariant: whatever a plugin does, and however often it is refused, at most [`MAX_LOG_LINES`] lines are written
//! about it, plus one with the number of omitted lines; about all of them together at most [`MAX_HOST_LOG_LINES`].

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rate_limiter::RateLimiter;

/// Maximum log lines about one plugin per second, and burst size.
pub const MAX_LOG_LINES: u32 = 100;
/// Maximum log lines about all plugins of a host per second, and burst size.
const MAX_HOST_LOG_LINES: u32 = 1000;
/// How often omitted lines are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Rate limit of log lines about one plugin.
#[derive(Debug)]
pub struct LogLimiter {
    own: Mutex<Lines>,
    /// The limit shared by all plugins.
    host: Arc<Mutex<Lines>>,
}

/// A limit of its own, not shared with a host.
impl Default for LogLimiter {
    fn default() -> Self {
        HostLogLimiter::default().plugin()
    }
}

/// Rate limit of log lines about all plugins of a host.
#[derive(Debug)]
pub struct HostLogLimiter(Arc<Mutex<Lines>>);

impl Default for HostLogLimiter {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Lines::new(MAX_HOST_LOG_LINES))))
    }
}

impl HostLogLimiter {
    /// The limit for one of the plugins.
    #[must_use]
    pub fn plugin(&self) -> LogLimiter {
        LogLimiter {
            own: Mutex::new(Lines::new(MAX_LOG_LINES)),
            host: Arc::clone(&self.0),
        }
    }
}

impl LogLimiter {
    /// Whether `lines` lines about this plugin may be written now. Logs the number of omitted lines when a report is
    /// due.
    pub fn admits(&self, plugin: &str, lines: u32) -> bool {
        let (admitted, omitted) = {
            let now = Instant::now();
            let mut own = self.own.lock();
            let admitted = own.admits(lines, now) && {
                let room = self.host.lock().admits(lines, now);
                own.omitted += u64::from(!room);
                room
            };
            (admitted, own.due_report(now))
        };
        report(plugin, omitted);
        admitted
    }

    /// Logs the number of omitted lines, if there are any and a report is due.
    pub fn report_omitted(&self, plugin: &str) {
        let omitted = {
            let mut own = self.own.lock();
            match own.omitted {
                0 => None,
                _ => own.due_report(Instant::now()),
            }
        };
        report(plugin, omitted);
    }
}

fn report(plugin: &str, omitted: Option<u64>) {
    if let Some(left_out) = omitted {
        tracing::warn!(target: "plugin", plugin, left_out, "more than {MAX_LOG_LINES} lines in a second, or {MAX_HOST_LOG_LINES} of all plugins; the rest are left out");
    }
}

#[derive(Debug)]
struct Lines {
    rate: RateLimiter,
    omitted: u64,
    reported: Option<Instant>,
}

impl Lines {
    fn new(per_second: u32) -> Self {
        Self {
            rate: RateLimiter::new(Duration::from_secs(1) / per_second, per_second),
            omitted: 0,
            reported: None,
        }
    }

    /// Whether `lines` lines may be written now.
    fn admits(&mut self, lines: u32, now: Instant) -> bool {
        let admitted = self.rate.try_take(lines, now);
        self.omitted += u64::from(!admitted);
        admitted
    }

    /// The number of omitted lines, if a report is due.
    fn due_report(&mut self, now: Instant) -> Option<u64> {
        let lately = |reported: Instant| now.duration_since(reported) < REPORT_INTERVAL;
        if self.omitted == 0 || self.reported.is_some_and(lately) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.omitted))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_plugins_together_write_a_thousand_lines_at_once() {
        let host = HostLogLimiter::default();
        let plugins: Vec<LogLimiter> = (0..20).map(|_| host.plugin()).collect();
        let begun = Instant::now();
        let written = plugins
            .iter()
            .map(|limiter| (0..100).filter(|_| limiter.admits("one", 1)).count());
        let written: usize = written.sum();
        let later = usize::try_from(begun.elapsed().as_millis()).unwrap() + 1;
        assert!((1000..=1000 + later).contains(&written), "{written}");
    }

    #[test]
    fn a_plugin_writes_a_hundred_lines_at_once_and_then_one_every_ten_milliseconds() {
        let (mut lines, begun) = (Lines::new(MAX_LOG_LINES), Instant::now());
        let written = (0..1000).filter(|_| lines.admits(1, begun)).count();
        assert_eq!(written, 100);
        assert_eq!(lines.due_report(begun), Some(900));
        let mut written = 0;
        for millisecond in 1..=5000 {
            let now = begun + Duration::from_millis(millisecond);
            written += (0..7).filter(|_| lines.admits(1, now)).count();
        }
        assert_eq!(written, 500);
    }

    #[test]
    fn a_pause_fills_it_up_again_and_no_further() {
        let (mut lines, begun) = (Lines::new(MAX_LOG_LINES), Instant::now());
        while lines.admits(1, begun) {}
        let later = begun + Duration::from_secs(3600);
        let written = (0..1000).filter(|_| lines.admits(1, later)).count();
        assert_eq!(written, 100);
    }

    #[test]
    fn long_lines_count_as_several() {
        let (mut lines, begun) = (Lines::new(MAX_LOG_LINES), Instant::now());
        let written = (0..1000).filter(|_| lines.admits(5, begun)).count();
        assert_eq!(written, 20);
    }

    #[test]
    fn what_is_left_out_is_said_once_a_second() {
        let (mut lines, begun) = (Lines::new(MAX_LOG_LINES), Instant::now());
        assert_eq!(lines.due_report(begun), None);
        let mut notices = Vec::new();
        for millisecond in 0..3500 {
            let now = begun + Duration::from_millis(millisecond);
            lines.admits(MAX_LOG_LINES, now);
            notices.extend(lines.due_report(now));
        }
        assert_eq!(notices.len(), 4);
        assert!(notices.iter().sum::<u64>() > 2900, "{notices:?}");
    }
}
