//! What a file and a folder are to a program, what they are on the disk, and what a power loss
//! makes of the difference.

use std::collections::BTreeMap;

/// A change of a file that was not synced yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        match self {
            Self::Cut(size) => content.resize(index(*size), 0),
            Self::Write(offset, bytes) => {
                let start = index(*offset);
                let end = start.saturating_add(bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(target) = content.get_mut(start..end) {
                    target.copy_from_slice(bytes);
                }
            }
        }
    }

    /// The change as far as it got.
    fn part(&self, random: &mut Random) -> Self {
        match self {
            Self::Cut(size) => Self::Cut(*size),
            Self::Write(offset, bytes) => {
                let got = random.below(bytes.len() + 1);
                Self::Write(*offset, bytes.iter().take(got).copied().collect())
            }
        }
    }

    /// The change with a page in it that did not get there, while later ones did.
    fn holed(&self, random: &mut Random) -> Self {
        const PAGE: usize = 512;
        match self {
            Self::Cut(size) => Self::Cut(*size),
            Self::Write(offset, bytes) => {
                let mut bytes = bytes.clone();
                let hole = random.below(bytes.len() / PAGE + 1) * PAGE;
                bytes
                    .iter_mut()
                    .skip(hole)
                    .take(PAGE)
                    .for_each(|byte| *byte = 0);
                Self::Write(*offset, bytes)
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What a program reads.
    pub now: Vec<u8>,
    pub on_disk: Vec<u8>,
    /// What leads from the one to the other.
    pub pending: Vec<Change>,
}

impl Inode {
    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// Brings to the disk what was changed since the last sync, and only that.
    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.on_disk);
        }
    }

    pub fn after_power_loss(&self, random: Option<&mut Random>) -> Self {
        let mut content = self.on_disk.clone();
        if let Some(random) = random {
            let whole = random.below(self.pending.len() + 1);
            self.pending
                .iter()
                .take(whole)
                .for_each(|change| change.apply(&mut content));
            if let Some(change) = self.pending.get(whole) {
                let change = if random.below(4) == 0 {
                    change.holed(random)
                } else {
                    change.part(random)
                };
                change.apply(&mut content);
            }
        }
        Self {
            now: content.clone(),
            on_disk: content,
            pending: Vec::new(),
        }
    }
}

/// The names of a folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub now: BTreeMap<String, u64>,
    pub on_disk: BTreeMap<String, u64>,
}

impl Names {
    pub fn after_power_loss(&self, random: Option<&mut Random>) -> Self {
        let mut names = self.on_disk.clone();
        if let Some(random) = random {
            let changed = self.now.keys().chain(self.on_disk.keys());
            for name in changed {
                if self.now.get(name) != self.on_disk.get(name) && random.below(2) == 0 {
                    match self.now.get(name) {
                        Some(number) => names.insert(name.clone(), *number),
                        None => names.remove(name),
                    };
                }
            }
        }
        Self {
            now: names.clone(),
            on_disk: names,
        }
    }
}

/// Numbers that a seed decides (xorshift64*).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        usize::try_from(number)
            .unwrap_or_default()
            .checked_rem(end)
            .unwrap_or_default()
    }
}
