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

/// The escape character, and how it is written where control characters are escaped.
const ESCAPES: [&[u8]; 8] = [
    b"\x1b", br"\x1b", br"\u001b", br"\u{1b}", br"\033", br"\e", b"%1b", b"%251b",
];

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
    /// Whether a pattern is replaced only as a token.
    short: bool,
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
            if let Some((word, bit)) = pattern.first_chunk().map(filter_bit)
                && let Some(word) = filter.get_mut(word)
            {
                *word |= bit;
            }
        }
        Self {
            replacement: replacement(&patterns),
            lines: patterns.iter().any(|pattern| pattern.contains(&b'\n')),
            short: patterns.iter().any(|pattern| pattern.len() < MIN_ANYWHERE),
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
        let mut found = Vec::new();
        if self.patterns.is_empty() {
            return found;
        }
        // Joined while scanning, since nearly every byte of a text may begin an occurrence.
        let mut run: Option<Range<usize>> = None;
        for start in 0..bytes.len() {
            let Some(length) = self.lengths_at(bytes, start).next() else {
                continue;
            };
            let end = start + length;
            match &mut run {
                Some(run) if run.end >= start => run.end = run.end.max(end),
                _ => {
                    if let Some(run) = run.replace(start..end) {
                        self.judge(bytes, run, &mut found);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.judge(bytes, run, &mut found);
        }
        found
    }

    /// Adds the secrets among the occurrences in a run, which consists of occurrences that overlap or touch.
    fn judge(&self, bytes: &[u8], run: Range<usize>, found: &mut Vec<Range<usize>>) {
        if !self.short {
            found.push(run);
            return;
        }
        for start in run.clone() {
            let secret = self
                .lengths_at(bytes, start)
                .map(|length| start..start + length)
                .find(|range| range.len() >= MIN_ANYWHERE || is_token(bytes, range, &run));
            if let Some(range) = secret {
                join(found, range);
            }
        }
    }

    /// Whether a pattern may begin with these bytes; `false` is certain.
    fn may_begin(&self, first: &[u8; MIN_SECRET]) -> bool {
        let (word, bit) = filter_bit(first);
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The lengths of the patterns that occur at this position, in descending order.
    fn lengths_at(&self, bytes: &[u8], start: usize) -> impl Iterator<Item = usize> {
        let bytes = bytes.get(start..).unwrap_or_default();
        let patterns = match bytes.first_chunk() {
            Some(first) if self.may_begin(first) => self.beginning_with(first),
            _ => &[],
        };
        // Patterns that occur at the same position are prefixes of each other, so their order is that of
        // their lengths.
        patterns
            .iter()
            .rev()
            .filter(|pattern| bytes.starts_with(pattern.as_slice()))
            .map(|pattern| pattern.len())
    }

    /// The patterns that begin with these bytes.
    fn beginning_with(&self, first: &[u8; MIN_SECRET]) -> &[Form] {
        let from = self
            .patterns
            .partition_point(|pattern| pattern.as_slice() < first.as_slice());
        let rest = self.patterns.get(from..).unwrap_or_default();
        let count = rest.partition_point(|pattern| pattern.starts_with(first));
        rest.get(..count).unwrap_or_default()
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

/// Adds a range, and joins it with the last one if they overlap or touch. Ranges are added in the order of their
/// beginnings.
fn join(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// Whether an occurrence is a token by itself rather than a part of a word. `run` is the run of occurrences that it is
/// in: next to another one, a token ends too, so that what is left of a text has none.
fn is_token(bytes: &[u8], found: &Range<usize>, run: &Range<usize>) -> bool {
    let before = bytes.get(..found.start).unwrap_or_default();
    let begins = found.start > run.start || !ends_in_word(before);
    let ends = found.end < run.end || !bytes.get(found.end).is_some_and(u8::is_ascii_alphanumeric);
    begins && ends
}

/// Whether the bytes end with a letter or a digit that is not part of an escape or of a colour sequence. Escapes are
/// `\n`, `\x0a`, `\u000a`, `\012`, `%0a` and `%250a`.
fn ends_in_word(bytes: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let is_octal = |digits: &[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
    match bytes {
        [.., b'\\', _] => false,
        [.., b'%', a, b] | [.., b'%', b'2', b'5', a, b] | [.., b'\\', b'x', a, b]
            if is_hex(&[*a, *b]) =>
        {
            false
        }
        [.., b'\\', b'u', a, b, c, d] if is_hex(&[*a, *b, *c, *d]) => false,
        [.., b'\\', a, b, c] if is_octal(&[*a, *b, *c]) => false,
        _ => bytes.last().is_some_and(u8::is_ascii_alphanumeric) && !ends_in_colour(bytes),
    }
}

/// Whether the bytes end with a colour sequence (SGR): the escape character, `[`, parameters and `m`.
fn ends_in_colour(bytes: &[u8]) -> bool {
    let is_parameter = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
    let Some(sequence) = bytes.strip_suffix(b"m") else {
        return false;
    };
    let Some(start) = sequence.iter().rposition(|byte| !is_parameter(byte)) else {
        return false;
    };
    let Some((before, [b'[', parameters @ ..])) = sequence.split_at_checked(start) else {
        return false;
    };
    let is_escaped = ESCAPES.iter().any(|escape| {
        let from = before.len().saturating_sub(escape.len());
        before
            .get(from..)
            .is_some_and(|end| end.eq_ignore_ascii_case(escape))
    });
    // A text on one line has a blank for the escape character, or nothing at its trimmed beginning.
    let is_blank = before.last().is_none_or(|last| *last == b' ');
    is_escaped || (is_blank && !parameters.is_empty())
}

/// The word and the bit of the filter for these bytes.
fn filter_bit(first: &[u8; MIN_SECRET]) -> (usize, u64) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(secrets: &[&str]) -> Matcher {
        let form = |secret: &&str| Form::new(Zeroizing::new(secret.as_bytes().to_vec()));
        Matcher::new(secrets.iter().map(form).collect())
    }

    #[test]
    fn a_text_full_of_overlapping_occurrences_costs_a_single_range() {
        let text = vec![b'a'; 4 << 20];
        let values = [16, 15, 12, 8, 7, 4].map(|length| "a".repeat(length));
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        for secrets in [&values[..], &values[..4], &values[5..]] {
            let found = matcher(secrets).find(&text);
            assert_eq!(found.len(), 1);
            assert_eq!(found.first(), Some(&(0..text.len())));
            assert!(found.capacity() <= 4, "{}", found.capacity());
        }
    }

    #[test]
    fn the_longest_secret_at_a_position_is_replaced() {
        let matcher = matcher(&["hush", "hush-hu", "hush-hush", "sh-hush-now"]);
        for (given, clean) in [
            ("hush-hush", "[redacted]"),
            ("a hush-hush-now", "a [redacted]"),
            ("hush-huge", "[redacted]-huge"),
            ("pushush-hushes", "pus[redacted]es"),
            ("hushes hush-hush", "hushes [redacted]"),
        ] {
            assert_eq!(matcher.clean(given), clean);
        }
    }
}
