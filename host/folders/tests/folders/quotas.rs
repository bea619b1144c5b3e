//! Quotas, the mode of the grant, and expectations.

use qchost_folders::MAX_FILE_BYTES;

use super::*;
use common::digest;

#[test]
fn no_quota_is_exceeded_and_nothing_is_changed_against_the_grant() {
    let tried = try_all(&[
        (
            "too many bytes",
            nothing,
            |w| put(&w.with_quota(100, 9), "g", 92),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 9), "g", 91),
        ),
        (
            "a file that grows",
            nothing,
            |w| put(&w.with_quota(100, 9), "f", 96),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 9), "f", 95),
        ),
        (
            "a folder that is too large grows",
            |w| sparse(w, "old", 200),
            |w| put(&w.with_quota(100, 9), "old", 201),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 9), "old", 150),
        ),
        (
            "too many files",
            nothing,
            |w| put(&w.with_quota(100, 2), "g", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 3), "g", 1),
        ),
        (
            "too many files below",
            nothing,
            |w| put(&w.with_quota(100, 2), "d/g/h", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 2), "d/f", 2),
        ),
        (
            "files that are not seen count",
            |w| fs::write(w.granted.join(".qchost-notes"), "x").unwrap(),
            |w| put(&w.with_quota(100, 3), "g", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 4), "g", 1),
        ),
        (
            "links count",
            |w| link(w, "f", "l"),
            |w| put(&w.with_quota(100, 3), "g", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 4), "g", 1),
        ),
        (
            "hard links count",
            |w| hard_link(w, "h"),
            |w| put(&w.with_quota(30, 9), "g", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(100, 9), "g", 1),
        ),
        (
            "holes count",
            |w| sparse(w, "holes", 1 << 40),
            |w| put(&w.with_quota(1 << 30, 9), "g", 1),
            QuotaExceeded,
            |w| put(&w.with_quota(1 << 41, 9), "g", 1),
        ),
        (
            "a file that is too large to read",
            |w| {
                sparse(w, "large", MAX_FILE_BYTES + 1);
                sparse(w, "just", MAX_FILE_BYTES);
            },
            |w| read(w, "large"),
            QuotaExceeded,
            |w| read(w, "just"),
        ),
        (
            "a file that is too large to write",
            nothing,
            |w| {
                put(
                    &w.folder(),
                    "g",
                    usize::try_from(MAX_FILE_BYTES).unwrap() + 1,
                )
            },
            QuotaExceeded,
            |w| put(&w.folder(), "g", usize::try_from(MAX_FILE_BYTES).unwrap()),
        ),
        (
            "a write to a folder for reading",
            nothing,
            |w| put(&w.read_only(), "f", 1),
            ReadOnly,
            |w| w.read_only().read("f"),
        ),
        (
            "a new file in a folder for reading",
            nothing,
            |w| put(&w.read_only(), "d/e/g", 1),
            ReadOnly,
            |w| put(&w.folder(), "d/e/g", 1),
        ),
        (
            "deleted from a folder for reading",
            nothing,
            |w| {
                w.read_only()
                    .delete("f", &Expectation::Anything)
                    .map(|_| Vec::new())
            },
            ReadOnly,
            |w| delete(w, "f"),
        ),
        (
            "a file that exists",
            nothing,
            |w| {
                w.folder()
                    .write("f", b"x", &Expectation::Absent)
                    .map(|()| Vec::new())
            },
            Conflict,
            |w| {
                w.folder()
                    .write("g", b"x", &Expectation::Absent)
                    .map(|()| Vec::new())
            },
        ),
        (
            "another content",
            nothing,
            |w| {
                w.folder()
                    .write("f", b"x", &Expectation::Digest(digest(b"other")))
                    .map(|()| Vec::new())
            },
            Conflict,
            |w| {
                w.folder()
                    .write("f", b"x", &Expectation::Digest(digest(b"file")))
                    .map(|()| Vec::new())
            },
        ),
        (
            "another content is deleted",
            nothing,
            |w| {
                w.folder()
                    .delete("f", &Expectation::Digest(digest(b"other")))
                    .map(|_| Vec::new())
            },
            Conflict,
            |w| {
                w.folder()
                    .delete("f", &Expectation::Digest(digest(b"file")))
                    .map(|_| Vec::new())
            },
        ),
        (
            "a digest of nothing",
            nothing,
            |w| {
                w.folder()
                    .write("g", b"x", &Expectation::Digest(digest(b"")))
                    .map(|()| Vec::new())
            },
            Conflict,
            |w| write(w, "g"),
        ),
    ]);
    assert_eq!(tried, 18);
}
