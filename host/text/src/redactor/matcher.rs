//! Finds all of a set of secrets in a text, in one pass.
//!
//! Invariants: the union of all occurrences is replaced, including overlapping ones; the
//! replacement overlaps with no pattern, so that it cannot form a new one; and everything derived
//! from secrets is cleared with the matcher. The last is why this is not one of the usual automata,
//! which copy their patterns into tables that stay in memory.

use std::borrow::Cow;
use std::ops::Range;

use zeroize::Zeroizing;

use super::forms::{Form, MIN_SECRET};

/// Minimum length in bytes of a pattern that is replaced within a word too. A shorter one is part of innocent words.
const MIN_ANYWHERE: usize = 8;

/// Replaces a secret, unless a secret looks like that itself.
const REDACTED: &str = "[redacted]";

/// Size in bits of the filter for the first four bytes of patterns.
const FILTER_BITS: usize = 1 << 16;

/// A set of secrets in all their forms.
#[derive(Default)]
pub(super) struct Matcher {
    /// Sorted, without duplicates, each of at least four bytes.
    patterns: Vec<Form>,
    /// A bit for the hash of the first four bytes of each pattern.
    filter: Zeroizing<Vec<u64>>,
    /// The replacement of a secret.
    replacement: String,
    /// Whether a pattern contains a line break.
    lines: bool,
    /// The length of the longest pattern.
    longest: usize,
}

impl Matcher {
    /// A matcher for these patterns.
    pub(super) fn new(mut patterns: Vec<Form>) -> Self {
        patterns.sort_by(|one, other| one.as_slice().cmp(other));
        patterns.dedup();
        let mut filter = Zeroizing::new(vec![0_u64; FILTER_BITS / 64]);
        for pattern in &patterns {
            if let Some((word, bit)) = pattern.first_chunk().map(slot)
                && let Some(word) = filter.get_mut(word)
            {
                *word |= bit;
            }
        }
        Self {
            replacement: replacement(&patterns),
            lines: patterns.iter().any(|pattern| pattern.contains(&b'\n')),
            longest: patterns
                .iter()
                .map(|pattern| pattern.len())
                .max()
                .unwrap_or(0),
            patterns,
            filter,
        }
    }

    /// Whether there is nothing to find.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The text with every secret replaced.
    pub(super) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len());
        let mut from = 0;
        for Range { start, end } in found {
            // A pattern consists of whole characters, so it begins and ends at character
            // boundaries.
            clean.push_str(text.get(from..start).unwrap_or_default());
            clean.push_str(&self.replacement);
            from = end;
        }
        clean.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(clean)
    }

    /// The bytes with every secret replaced; they need not be text.
    pub(super) fn clean_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut from = 0;
        for Range { start, end } in self.find(bytes) {
            clean.extend_from_slice(bytes.get(from..start).unwrap_or_default());
            clean.extend_from_slice(self.replacement.as_bytes());
            from = end;
        }
        clean.extend_from_slice(bytes.get(from..).unwrap_or_default());
        clean
    }

    /// Where to cut the bytes so that the part before can be redacted separately: an incomplete
    /// occurrence of a secret is after the cut, and none crosses it.
    pub(super) fn cut(&self, bytes: &[u8]) -> usize {
        if bytes.ends_with(b"\n") && !self.lines {
            return bytes.len();
        }
        let earliest = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let cut = (earliest..bytes.len())
            .find(|start| self.begins(bytes.get(*start..).unwrap_or_default()))
            .unwrap_or(bytes.len());
        self.find(bytes)
            .into_iter()
            .find(|found| found.contains(&cut))
            .map_or(cut, |found| found.end)
    }

    /// The positions of secrets: ordered ranges that neither overlap nor touch.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        if self.patterns.is_empty() {
            return Vec::new();
        }
        let all = self.occurrences(bytes);
        let covered = joined(all.iter().cloned());
        let is_secret = |found: &Range<usize>| {
            found.len() >= MIN_ANYWHERE || is_token(bytes, found.clone(), &covered)
        };
        joined(all.into_iter().filter(is_secret))
    }

    /// Where patterns occur, in the order of their beginnings.
    fn occurrences(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (start, window) in bytes.windows(MIN_SECRET).enumerate() {
            if let Some(first) = window.first_chunk().filter(|first| self.may_begin(first)) {
                let lengths = self.lengths_at(first, bytes.get(start..).unwrap_or_default());
                found.extend(lengths.map(|length| start..start + length));
            }
        }
        found
    }

    /// Whether a pattern may begin with these bytes; `false` is certain.
    fn may_begin(&self, first: &[u8; MIN_SECRET]) -> bool {
        let (word, bit) = slot(first);
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The lengths of the patterns that the bytes begin with.
    fn lengths_at(&self, first: &[u8; MIN_SECRET], bytes: &[u8]) -> impl Iterator<Item = usize> {
        let from = self
            .patterns
            .partition_point(|pattern| pattern.as_slice() < first.as_slice());
        self.patterns
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|pattern| pattern.starts_with(first))
            .filter(|pattern| bytes.starts_with(pattern.as_slice()))
            .map(|pattern| pattern.len())
    }

    /// Whether a pattern begins with these bytes and continues.
    fn begins(&self, bytes: &[u8]) -> bool {
        let next = self
            .patterns
            .partition_point(|pattern| pattern.as_slice() <= bytes);
        self.patterns
            .get(next)
            .is_some_and(|pattern| pattern.starts_with(bytes))
    }
}

/// Joins ranges that overlap or touch.
fn joined(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Whether an occurrence is a token by itself rather than a part of a word. `covered` are all occurrences: next to
/// another one, a token ends too, so that what is left of a text has none.
fn is_token(bytes: &[u8], found: Range<usize>, covered: &[Range<usize>]) -> bool {
    let is_covered = |at: usize| {
        let next = covered.partition_point(|range| range.end <= at);
        covered.get(next).is_some_and(|range| range.contains(&at))
    };
    let before = bytes.get(..found.start).unwrap_or_default();
    let after = bytes.get(found.end..).unwrap_or_default();
    let begins = !ends_in_word(before) || is_covered(found.start.saturating_sub(1));
    let ends = !after.first().is_some_and(u8::is_ascii_alphanumeric) || is_covered(found.end);
    begins && ends
}

/// Whether the bytes end with a letter or a digit that is not part of an escape: `\n`, `\u000a` or `%0a`.
fn ends_in_word(bytes: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match bytes {
        [.., b'\\', _] => false,
        [.., b'%', a, b] if is_hex(&[*a, *b]) => false,
        [.., b'\\', b'u', a, b, c, d] if is_hex(&[*a, *b, *c, *d]) => false,
        _ => bytes.last().is_some_and(u8::is_ascii_alphanumeric),
    }
}

/// The word and the bit of the filter for these bytes.
fn slot(first: &[u8; MIN_SECRET]) -> (usize, u64) {
    // Multiplicative hashing (Knuth, TAOCP volume 3, 6.4): the upper bits are the well mixed ones.
    let hash = u32::from_le_bytes(*first).wrapping_mul(0x9E37_79B1) >> 16;
    let bit = 1 << (hash % 64);
    (usize::try_from(hash / 64).unwrap_or(0), bit)
}

/// A text that overlaps with no pattern.
fn replacement(patterns: &[Form]) -> String {
    let usual = REDACTED.as_bytes();
    if !patterns.iter().any(|pattern| overlap(pattern, usual)) {
        return REDACTED.to_owned();
    }
    // Blocks, arrows, dingbats: no secret contains all of them.
    ('\u{2580}'..='\u{2fff}')
        .find(|c| {
            let mut buffer = [0; 4];
            let shown = c.encode_utf8(&mut buffer).as_bytes();
            !patterns
                .iter()
                .any(|pattern| pattern.windows(shown.len()).any(|window| window == shown))
        })
        .map(String::from)
        .unwrap_or_default()
}

/// Whether the two can share bytes in a text: one contains the other, or begins with its end.
fn overlap(pattern: &[u8], shown: &[u8]) -> bool {
    let within = |long: &[u8], short: &[u8]| {
        long.len() >= short.len() && long.windows(short.len()).any(|window| window == short)
    };
    within(pattern, shown)
        || within(shown, pattern)
        || (1..shown.len().min(pattern.len())).any(|length| {
            let ends = |text: &[u8], with: &[u8]| {
                with.get(..length)
                    .is_some_and(|start| text.ends_with(start))
            };
            ends(pattern, shown) || ends(shown, pattern)
        })
}
