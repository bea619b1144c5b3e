//! Rate limit of log lines about a plugin: its own, and those that the host writes about its calls.
//!
//! Lines are counted per plugin over all its invocations, so that a plugin with sixteen concurrent invocations gets
//! no more than one with a single invocation; and for all plugins together. Omitted lines are reported: those of a plugin
//! itself at the end of the invocation that wrote them, those about it every second, seldom enough that the reports are no
//! flood either.
//!
//! Invariant: whatever a plugin does, and however often it is refused, at most [`MAX_LOG_LINES`] lines a second are written
//! about it, plus two with numbers of omitted lines, and [`MAX_NOTICES`] more after a pause; about all of them together at
//! most [`MAX_HOST_LOG_LINES`]. Each omitted line is in one of these numbers.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rate_limiter::RateLimiter;

/// Maximum log lines about one plugin per second, and burst size.
pub const MAX_LOG_LINES: u32 = 100;
/// Maximum log lines about all plugins of a host per second, and burst size.
const MAX_HOST_LOG_LINES: u32 = 1000;
/// How often omitted lines are reported, and how often the end of an invocation is on the average.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum invocations of one plugin whose ends report omitted lines at once, after an equally long pause.
const MAX_NOTICES: u32 = 10;

/// Rate limit of log lines about one plugin.
#[derive(Debug)]
pub struct LogLimiter {
    own: Mutex<Lines>,
    /// Reports at the ends of invocations.
    notices: Mutex<RateLimiter>,
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
            notices: Mutex::new(RateLimiter::new(REPORT_INTERVAL, MAX_NOTICES)),
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

    /// Whether `lines` lines of this plugin may be written now. The caller counts those that may not, and reports them by
    /// [`Self::invocation_ended`].
    pub fn try_admit(&self, lines: u32) -> bool {
        let now = Instant::now();
        self.own.lock().rate.try_take(lines, now) && self.host.lock().rate.try_take(lines, now)
    }

    /// Logs how many lines of an invocation were left out, at its end. If too many invocations end like this, the number is
    /// added to the next report.
    pub fn invocation_ended(&self, plugin: &str, invocation: &str, left_out: u64) {
        let (is_told, omitted) = self.end(left_out, Instant::now());
        if is_told {
            tracing::warn!(target: "plugin", plugin, invocation, left_out, "lines of the invocation are left out: more than {MAX_LOG_LINES} in a second, {MAX_HOST_LOG_LINES} of all plugins, or too many of one invocation");
        }
        report(plugin, omitted);
    }

    /// Whether the end of an invocation is reported by itself, and the number of other omitted lines if a report is due.
    fn end(&self, left_out: u64, now: Instant) -> (bool, Option<u64>) {
        let is_told = left_out > 0 && self.notices.lock().try_take(1, now);
        let mut own = self.own.lock();
        if !is_told {
            own.omitted += left_out;
        }
        (is_told, own.due_report(now))
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
    fn lines_left_out_of_too_many_invocations_are_counted_together() {
        let (limiter, begun) = (LogLimiter::default(), Instant::now());
        for _ in 0..MAX_NOTICES {
            assert_eq!(limiter.end(7, begun), (true, None));
        }
        // The next one is reported without its name, and those after it wait for the next report.
        assert_eq!(limiter.end(7, begun), (false, Some(7)));
        assert_eq!(limiter.end(5, begun), (false, None));
        assert_eq!(limiter.end(6, begun), (false, None));
        assert_eq!(limiter.end(0, begun + REPORT_INTERVAL), (false, Some(11)));
        assert_eq!(limiter.end(2443, begun + REPORT_INTERVAL), (true, None));
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
