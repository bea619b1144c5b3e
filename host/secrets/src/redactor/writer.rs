//! A writer that redacts what passes through it.
//!
//! Invariants: nothing is passed on before its line is complete (or [`LINE`] bytes long), so a
//! secret is found however it is split over writes; the buffer is bounded by that and by the
//! longest secret.

use std::fmt;
use std::io::{self, Write};

use zeroize::Zeroizing;

use super::Redactor;

/// Maximum bytes of an incomplete line that are buffered.
const LINE: usize = 64 * 1024;

/// Passes on what is written to it, line by line and redacted. An incomplete line is passed on when
/// it is dropped; [`Write::flush`] does not pass on incomplete lines.
pub struct RedactingWriter<W: Write> {
    redactor: Redactor,
    inner: W,
    kept: Zeroizing<Vec<u8>>,
}

impl<W: Write> fmt::Debug for RedactingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactingWriter").finish_non_exhaustive()
    }
}

impl<W: Write> RedactingWriter<W> {
    pub(super) fn new(redactor: Redactor, inner: W) -> Self {
        Self {
            redactor,
            inner,
            kept: Zeroizing::default(),
        }
    }

    /// Passes on what can be redacted already.
    fn pass(&mut self) -> io::Result<()> {
        let matcher = self.redactor.matcher();
        let lines = match self.kept.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.kept.len() > LINE => self.kept.len(),
            None => return Ok(()),
        };
        let whole = self.kept.get(..lines).unwrap_or_default();
        let cut = matcher.cut(whole);
        let clean = matcher.clean_bytes(self.kept.get(..cut).unwrap_or_default());
        // Even on failure: data whose write failed must not be written twice.
        self.kept.drain(..cut);
        self.inner.write_all(&clean)
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // In chunks, so that a huge write is not buffered as a whole.
        let piece = bytes.get(..LINE).unwrap_or(bytes);
        self.kept.extend_from_slice(piece);
        self.pass()?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for RedactingWriter<W> {
    fn drop(&mut self) {
        let clean = self.redactor.matcher().clean_bytes(&self.kept);
        // There is no way to report an error.
        let _ = self
            .inner
            .write_all(&clean)
            .and_then(|()| self.inner.flush());
    }
}
