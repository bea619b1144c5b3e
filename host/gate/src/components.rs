//! Imports of the admitted components, for as long as their code is referenced.
//!
//! Invariant: entries of code that is gone are removed when the next component is admitted, however often a plugin is
//! reloaded.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Components by digest. Loaded code and its callers hold the digest, which keeps the entry alive.
#[derive(Debug, Default)]
pub(crate) struct Components(Mutex<Vec<(Weak<str>, Vec<String>)>>);

impl Components {
    /// Remembers what a component imports.
    pub fn admit(&self, digest: &Arc<str>, imports: &[String]) {
        let mut known = self.0.lock();
        let admitted = Arc::downgrade(digest);
        known.retain(|(other, _)| other.strong_count() > 0 && !other.ptr_eq(&admitted));
        known.push((admitted, imports.to_vec()));
    }

    /// What a component imports, if it was admitted.
    pub fn imports(&self, digest: &str) -> Option<Vec<String>> {
        let known = self.0.lock();
        let mut newest = known.iter().rev();
        newest.find_map(|(other, imports)| {
            let same = other.upgrade().is_some_and(|other| *other == *digest);
            same.then(|| imports.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_still_has_code_is_remembered() {
        let components = Components::default();
        let former: Arc<str> = "sha256:former".into();
        components.admit(&former, &["live".to_owned()]);
        for number in 0..1000 {
            let digest: Arc<str> = format!("sha256:{number}").into();
            components.admit(&digest, &["raw".to_owned()]);
            // A single entry for code that many manifests use.
            components.admit(&digest, &["raw".to_owned()]);
            assert_eq!(components.imports(&digest), Some(vec!["raw".to_owned()]));
        }
        assert!(components.0.lock().len() <= 2);
        assert_eq!(components.imports("sha256:0"), None);
        // A running component stays known, however many were admitted later.
        assert_eq!(components.imports(&former), Some(vec!["live".to_owned()]));
    }
}
