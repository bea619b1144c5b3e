//! Drops redacted texts once the audit's retention has removed the last record that names them.
//!
//! Invariant: a text that a record names, or that is in force, is never dropped.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use qchost_audit::{Audit, AuditError, Filter, oldest, query};

use crate::changes::Changes;

/// How often to check whether records were removed.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// Drops texts for as long as `changes` is in use.
pub(crate) fn start(changes: &Arc<Changes>) {
    let changes = Arc::downgrade(changes);
    tokio::spawn(run(changes));
}

async fn run(changes: Weak<Changes>) {
    let mut previous = None;
    let mut due = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        due.tick().await;
        let Some(changes) = changes.upgrade() else {
            return;
        };
        let looking = tokio::task::spawn_blocking(move || changes.drop_unnamed(previous));
        match looking.await {
            Ok(Ok(first)) => previous = first,
            Ok(Err(error)) => {
                tracing::warn!(target: "gate", %error, "redacted texts that no record names any more were not dropped");
            }
            Err(_) => return,
        }
    }
}

impl Changes {
    /// Drops the texts that no record names, if records were removed since the oldest one was `previous`. Returns the
    /// oldest one now. Blocks.
    pub(crate) fn drop_unnamed(&self, previous: Option<u64>) -> Result<Option<u64>, AuditError> {
        let audit = self.audit();
        let first = oldest(&**audit.files(), audit.folder())?;
        // Nothing was ever removed from an audit that still begins with its first record.
        if first == previous || first.is_none_or(|first| first <= 1) {
            return Ok(first);
        }
        let mut named = named(audit)?;
        named.extend(self.digests());
        match self.texts.retain(&named) {
            Ok(0) => {}
            Ok(dropped) => {
                tracing::info!(target: "gate", dropped, "redacted texts that no record names any more were dropped");
            }
            Err(error) => {
                tracing::warn!(target: "gate", %error, folder = %self.texts.folder().display(), "redacted texts were not dropped");
            }
        }
        Ok(first)
    }
}

/// The digests that records name.
fn named(audit: &Audit) -> Result<HashSet<String>, AuditError> {
    let mut named = HashSet::new();
    for record in query(Arc::clone(audit.files()), audit.folder(), Filter::default())? {
        for digest in record?.summary().digests() {
            if !named.contains(digest) {
                named.insert(digest.to_owned());
            }
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::time::SystemTime;

    use qchost_audit::{Disk, Entry, Kind, Options};
    use qchost_ledger::Ledger;
    use serde_json::Map;
    use tokio_util::task::TaskTracker;
    use zeroize::Zeroizing;

    use super::*;
    use crate::fingerprint::{Fingerprints, text_hash};
    use crate::redacted_text::{Form, RedactedText};

    fn entry(digest: &str) -> Entry {
        Entry {
            kind: Kind::Read,
            essential: false,
            body: Map::from_iter([("manifest".to_owned(), digest.into())]),
        }
    }

    #[tokio::test]
    async fn a_text_is_dropped_with_the_last_record_that_names_it_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            folder: folder.path().join("audit"),
            key: vec![7; 32].into(),
            segment_bytes: 2000,
            keep: Some(Duration::ZERO),
            reserve_bytes: 0,
            anchor: None,
            files: Arc::new(Disk),
        };
        let (audit, _) = Audit::open(options, None).unwrap();
        let in_force = text_hash("in force");
        let last = BTreeMap::from([("manifest lab".to_owned(), in_force.clone())]);
        let changes = Changes::new(
            audit.clone(),
            Ledger::in_memory().unwrap(),
            Arc::new(Fingerprints::new(Zeroizing::new(vec![7; 32]))),
            TaskTracker::new(),
            last,
            BTreeMap::new(),
        );
        let [gone, named] = ["gone", "named"].map(text_hash);
        for text in ["in force", "gone", "named"] {
            let kept = RedactedText::plain(Form::Manifest, text);
            changes.keep(&kept);
            let path = changes.texts.folder().join(kept.digest.replace(':', "-"));
            let old = SystemTime::now() - Duration::from_secs(7200);
            File::open(path).unwrap().set_modified(old).unwrap();
        }
        audit.record(entry(&gone)).await.unwrap();
        assert_eq!(changes.drop_unnamed(None).unwrap(), Some(1));
        assert!(changes.texts.read(&gone).unwrap().is_some());
        // Until the segment with the first record is gone.
        while oldest(&Disk, audit.folder()).unwrap() == Some(1) {
            audit.record(entry(&named)).await.unwrap();
        }
        changes.drop_unnamed(Some(1)).unwrap();
        assert_eq!(changes.texts.read(&gone).unwrap(), None);
        for digest in [&named, &in_force] {
            assert!(changes.texts.read(digest).unwrap().is_some(), "{digest}");
        }
        audit.close().await;
    }
}
