//! Writes log lines to standard error on a thread of its own.
//!
//! Invariant: no logging thread waits for the reader of the log. Lines that are not read in time are dropped, and their
//! number is logged once the reader continues.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Maximum bytes queued.
const MAX_BYTES: usize = 4 << 20;

/// The queue. Clones are the same one.
#[derive(Clone, Default)]
pub struct LogQueue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// Whether a chunk is being written.
    writing: bool,
    /// Whether the process ends: later lines would follow its last message.
    closed: bool,
}

impl LogQueue {
    /// A queue whose chunks are written to `out`; `notice` is the line about a number of dropped ones.
    pub fn start(
        out: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self::default();
        let written = queue.clone();
        thread::Builder::new()
            .name("qchost-log".to_owned())
            .spawn(move || written.write_all_to(out, notice))?;
        Ok(queue)
    }

    fn write_all_to(&self, mut out: impl Write, notice: impl Fn(u64) -> String) {
        loop {
            let (piece, lost) = {
                let mut waiting = self.0.waiting.lock();
                waiting.writing = false;
                self.0.changed.notify_all();
                while waiting.pieces.is_empty() {
                    self.0.changed.wait(&mut waiting);
                }
                let piece = waiting.pieces.pop_front().unwrap_or_default();
                waiting.bytes = waiting.bytes.saturating_sub(piece.len());
                waiting.writing = true;
                (piece, std::mem::take(&mut waiting.lost))
            };
            // If the log cannot be written any more, the host continues.
            drop(out.write_all(&piece));
            if lost > 0 {
                drop(writeln!(out, "{}", notice(lost)));
            }
        }
    }

    /// Accepts no more lines, and waits until everything is written, at most for `limit`.
    pub fn close(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut waiting = self.0.waiting.lock();
        waiting.closed = true;
        while !waiting.pieces.is_empty() || waiting.writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.0.changed.wait_for(&mut waiting, left);
        }
    }
}

impl Write for LogQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock();
        if waiting.closed {
            // Threads of connections outlive what is served.
        } else if waiting.bytes + bytes.len() > MAX_BYTES {
            waiting.lost += 1;
        } else {
            waiting.bytes += bytes.len();
            waiting.pieces.push_back(bytes.to_vec());
            self.0.changed.notify_all();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that reads when it is told to.
    struct Slow(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_is_not_read_holds_up_nothing_and_says_what_it_lost() {
        let (go, told) = mpsc::channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let notice = |lost| format!("{lost} dropped");
        let mut queue = LogQueue::start(Slow(told, Arc::clone(&read)), notice).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..10 {
            queue.write_all(&line).unwrap();
        }
        queue.close(Duration::from_millis(1));
        queue.write_all(b"after the end").unwrap();
        for _ in 0..20 {
            go.send(()).unwrap();
        }
        queue.close(Duration::from_secs(60));
        let read = read.lock();
        let text = String::from_utf8_lossy(&read);
        // Each line was written or counted.
        let written = text.matches('x').count() >> 20;
        let mut notices: Vec<&str> = text.split(" dropped").collect();
        notices.pop();
        let lost: usize = notices
            .iter()
            .filter_map(|before| before.rsplit(|c: char| !c.is_ascii_digit()).next())
            .map(|number| number.parse::<usize>().unwrap())
            .sum();
        assert!(lost > 0);
        assert_eq!(written + lost, 10);
        assert!(text.len() < 6 << 20, "{}", text.len());
        assert!(!text.contains("after the end"));
    }
}
