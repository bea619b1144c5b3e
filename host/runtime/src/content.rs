//! The content of a file that is read once and soon dropped, such as a component or its compiled code.
//!
//! Invariant: its memory is returned to the system when it is dropped. The allocator would keep these megabytes
//! for later allocations, which an idle host does not make.

use std::io::{self, ErrorKind, Read};

use bytes::Bytes;
use memmap2::MmapMut;

/// Reads to the end, at most `max_bytes` bytes. Blocks.
pub(crate) fn read(mut from: impl Read, max_bytes: usize) -> io::Result<Bytes> {
    let mut memory = MmapMut::map_anon(max_bytes)?;
    let mut length = 0;
    loop {
        match from.read(memory.get_mut(length..).unwrap_or_default()) {
            Ok(0) => return Ok(Bytes::from_owner(memory).slice(..length)),
            Ok(read) => length = length.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_read_and_no_more_than_may_be() {
        let file = [7; 10_000];
        for (max_bytes, expected) in [
            (0, 0),
            (1, 1),
            (9_999, 9_999),
            (10_000, 10_000),
            (10_001, 10_000),
        ] {
            // In several reads, since a file system may return fewer bytes than requested.
            let pieces = file
                .chunks(3_000)
                .fold(Box::new(io::empty()) as Box<dyn Read>, |before, piece| {
                    Box::new(before.chain(piece))
                });
            assert_eq!(read(pieces, max_bytes).unwrap(), file[..expected]);
        }
    }
}
