//! Names of cache entries: derived from the component and everything else that the content depends
//! on.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// Prefix of a component's hash.
const ALGORITHM: &str = "sha256:";

/// An entry's name.
#[derive(Debug)]
pub(crate) struct Entry(String);

impl Entry {
    /// A component's code: it depends on the engine's version and settings and on the processor.
    pub(crate) fn code(engine: &Engine, digest: &str) -> Self {
        let mut hasher = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(format!("{}-{:016x}.cwasm", hex(digest), hasher.finish()))
    }

    /// A component's description: it depends on the contract.
    pub(crate) fn description(contract: &str, digest: &str) -> Self {
        Self(format!("{}-{contract}.json", hex(digest)))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The hash of the component in an entry's name.
    pub(super) fn digest_in(name: &str) -> Option<String> {
        let (digest, _) = name.split_once('-')?;
        let hash = digest.len() == 64 && digest.bytes().all(|it| it.is_ascii_hexdigit());
        hash.then(|| format!("{ALGORITHM}{digest}"))
    }
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches(ALGORITHM)
}

/// A hasher that is stable across builds of the host.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.clone().finalize();
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}
