//! Changes of an input: the same ones for libFuzzer, which brings its own plain changes, and for the
//! short run in `cargo test`, which has [`plain`].
//!
//! Invariant: the same input, seed and words give the same change.

use crate::Target;

/// Changes bytes without knowing their form.
pub type Change<'a> = &'a mut dyn FnMut(&mut Vec<u8>);

/// Numbers that look random (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this one, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % end).unwrap_or_default()
    }
}

/// Changes an input of a target: by its form, by one of its words, or plainly.
pub fn mutate(
    target: &Target,
    words: &[String],
    input: &mut Vec<u8>,
    random: &mut Random,
    change: Change<'_>,
) {
    match (random.below(8), target.reshape) {
        (0..4, Some(reshape)) => reshape(input, random, change),
        (0..2, None) if !words.is_empty() => {
            let word = words[random.below(words.len())].as_bytes();
            let at = random.below(input.len() + 1);
            let replaced = at + [0, word.len(), random.below(16)][random.below(3)];
            input.splice(at..replaced.min(input.len()), word.iter().copied());
        }
        _ => change(input),
    }
}

/// One to four of the usual changes.
pub fn plain(input: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(32)).min(input.len());
        let byte = random.number().to_le_bytes()[0];
        match random.below(6) {
            0 => input.insert(at, byte),
            1 => drop(input.drain(at..end)),
            2 => {
                let part = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, part);
            }
            3 => input.truncate(at),
            _ => {
                if let Some(there) = input.get_mut(at) {
                    *there =
                        [byte, *there ^ (1 << (byte % 8)), there.wrapping_add(1)][random.below(3)];
                }
            }
        }
    }
}
