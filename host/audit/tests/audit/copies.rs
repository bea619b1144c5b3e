//! A copy of an audit that goes on is the audit as of one head: all of it, and nothing past it.

use std::path::PathBuf;

use qchost_audit::faults::Drive;
use qchost_audit::{Audit, Options, verify};

use crate::support::{intent, key, open, options};

#[tokio::test]
async fn a_copy_has_what_its_head_covers_and_nothing_past_it() {
    let drive = Drive::new();
    let (audit, _) = open(&drive).unwrap();
    // Segments of 4 KiB are full after a dozen records; before the first one there is no record at all.
    let mut heads = vec![(0, audit.mark().await.unwrap())];
    for number in 1..=40_u64 {
        let sequence = audit.record(intent(&format!("c{number}"))).await.unwrap();
        heads.push((sequence, audit.mark().await.unwrap()));
    }
    for (last, head) in heads {
        let folder = PathBuf::from(format!("/copy-{last}"));
        audit.copy_to(&folder, &head).await.unwrap();
        let report = verify(&drive, &folder, &key(), None).unwrap();
        assert!(report.sound(), "{last}: {report}");
        assert_eq!(report.records, last);
        let options = Options {
            folder,
            ..options(drive.clone())
        };
        let (copy, opening) = Audit::open(options, Some(&head)).unwrap();
        assert_eq!(opening.recovered, 0, "{last}");
        assert_eq!(copy.head(), head);
    }
}
