//! Paths, Unicode and case.

use std::os::unix::ffi::OsStrExt as _;

use qchost_folders::{MAX_DEPTH, MAX_PATH_BYTES};

use super::*;

#[test]
fn no_path_leads_out() {
    let tried = try_all(&[
        (
            "up",
            nothing,
            |w| read(w, "../outside/secret"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "only up",
            nothing,
            |w| read(w, ".."),
            InvalidPath,
            |w| {
                fs::write(w.granted.join("..."), "x").unwrap();
                read(w, "...")
            },
        ),
        (
            "down and up",
            nothing,
            |w| read(w, "d/../../outside/secret"),
            InvalidPath,
            |w| read(w, "d/f"),
        ),
        (
            "up and down again",
            nothing,
            |w| read(w, "../granted/f"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "up inside",
            nothing,
            |w| read(w, "d/../f"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "up at the end",
            nothing,
            |w| read(w, "d/.."),
            InvalidPath,
            |w| read(w, "d/f"),
        ),
        (
            "absolute",
            nothing,
            |w| read(w, &absolute(w, "outside/secret")),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "absolute inside",
            nothing,
            |w| read(w, &absolute(w, "granted/f")),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "the root",
            nothing,
            |w| read(w, "/"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "nothing",
            nothing,
            |w| read(w, ""),
            InvalidPath,
            |w| list(w, ""),
        ),
        (
            "itself",
            nothing,
            |w| read(w, "."),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "by itself",
            nothing,
            |w| read(w, "./f"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "an empty name",
            nothing,
            |w| read(w, "d//f"),
            InvalidPath,
            |w| read(w, "d/f"),
        ),
        (
            "an empty name at the end",
            nothing,
            |w| read(w, "f/"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "a NUL",
            nothing,
            |w| read(w, "f\0/../../outside/secret"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "a backslash",
            nothing,
            |w| read(w, "..\\outside\\secret"),
            InvalidPath,
            |w| write(w, "a'b"),
        ),
        (
            "a backslash in a written name",
            nothing,
            |w| write(w, "..\\..\\x"),
            InvalidPath,
            |w| write(w, "....x"),
        ),
        (
            "a line break",
            nothing,
            |w| write(w, "a\nb"),
            InvalidPath,
            |w| write(w, "a b"),
        ),
        (
            "an escape",
            nothing,
            |w| write(w, "a\u{1b}[2J"),
            InvalidPath,
            |w| write(w, "a[2J"),
        ),
        (
            "too long",
            nothing,
            |w| write(w, &"abcdefg/".repeat(129)),
            InvalidPath,
            |w| {
                let path = [
                    "a".repeat(255),
                    "b".repeat(255),
                    "c".repeat(255),
                    "d".repeat(256 - 1),
                ]
                .join("/");
                assert!(path.len() < MAX_PATH_BYTES);
                write(w, &path)
            },
        ),
        (
            "too deep",
            nothing,
            |w| write(w, &["a"; MAX_DEPTH + 1].join("/")),
            InvalidPath,
            |w| write(w, &["a"; MAX_DEPTH].join("/")),
        ),
        (
            "a name that is too long",
            nothing,
            |w| write(w, &"a".repeat(256)),
            InvalidPath,
            |w| write(w, &"a".repeat(255)),
        ),
        (
            "written above",
            nothing,
            |w| write(w, "../outside/new"),
            InvalidPath,
            |w| write(w, "outside/new"),
        ),
        (
            "written at an absolute path",
            nothing,
            |w| write(w, &absolute(w, "outside/new")),
            InvalidPath,
            |w| write(w, "new"),
        ),
        (
            "deleted above",
            nothing,
            |w| delete(w, "../outside/secret"),
            InvalidPath,
            |w| delete(w, "f"),
        ),
        (
            "listed above",
            nothing,
            |w| list(w, "../outside/"),
            InvalidPath,
            |w| list(w, "d/"),
        ),
        (
            "listed up",
            nothing,
            |w| list(w, ".."),
            InvalidPath,
            |w| list(w, ""),
        ),
        (
            "listed from the root",
            nothing,
            |w| list(w, "/etc/"),
            InvalidPath,
            |w| list(w, "d"),
        ),
        (
            "the host's own names",
            nothing,
            |w| write(w, ".qchost-x.tmp"),
            InvalidPath,
            |w| write(w, ".other-x.tmp"),
        ),
        (
            "the host's own names in another case",
            nothing,
            |w| write(w, "d/.QCHOST-x"),
            InvalidPath,
            |w| write(w, "d/QCHOST-x"),
        ),
    ]);
    assert_eq!(tried, 30);
}

#[test]
fn no_unicode_and_no_case_leads_out() {
    let tried = try_all(&[
        (
            "dots without a width between",
            nothing,
            |w| read(w, ".\u{200b}./outside/secret"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "a change of direction",
            nothing,
            |w| write(w, "a\u{202e}txt.exe"),
            InvalidPath,
            |w| write(w, "مرحبا.txt"),
        ),
        (
            "a byte order mark",
            nothing,
            |w| read(w, "\u{feff}f"),
            InvalidPath,
            |w| read(w, "f"),
        ),
        (
            "wide dots",
            nothing,
            |w| read(w, "\u{ff0e}\u{ff0e}/outside/secret"),
            NotFound,
            |w| write(w, "\u{ff0e}\u{ff0e}"),
        ),
        (
            "a leader of two dots",
            nothing,
            |w| read(w, "\u{2025}/outside/secret"),
            NotFound,
            |w| write(w, "\u{2025}/f"),
        ),
        (
            "a wide slash",
            nothing,
            |w| read(w, "..\u{ff0f}outside\u{ff0f}secret"),
            NotFound,
            |w| write(w, "a\u{ff0f}b"),
        ),
        (
            "a slash for fractions",
            nothing,
            |w| read(w, "..\u{2044}outside\u{2044}secret"),
            NotFound,
            |w| write(w, "1\u{2044}2"),
        ),
        (
            "escaped dots",
            nothing,
            |w| read(w, "%2e%2e/outside/secret"),
            NotFound,
            |w| write(w, "%2e%2e/f"),
        ),
        (
            "an escaped slash",
            nothing,
            |w| read(w, "..%2foutside%2fsecret"),
            NotFound,
            |w| write(w, "50%2f"),
        ),
        (
            "a home",
            nothing,
            |w| read(w, "~/.ssh/id_rsa"),
            NotFound,
            |w| write(w, "~/f"),
        ),
        (
            "another form of a letter",
            |w| fs::write(w.granted.join("caf\u{e9}"), "x").unwrap(),
            |w| read(w, "cafe\u{301}"),
            NotFound,
            |w| read(w, "caf\u{e9}"),
        ),
        (
            "another case",
            |w| fs::write(w.granted.join("Report"), "x").unwrap(),
            |w| read(w, "report"),
            NotFound,
            |w| read(w, "Report"),
        ),
        (
            "another case of the folder above",
            nothing,
            |w| read(w, "../OUTSIDE/secret"),
            InvalidPath,
            |w| write(w, "OUTSIDE/secret"),
        ),
        (
            "a name that is not UTF-8",
            |w| fs::write(w.granted.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap(),
            |w| listed(w, "caf\u{fffd}"),
            NotFound,
            |w| listed(w, "f"),
        ),
        (
            "a name that no path may have",
            |w| fs::write(w.granted.join("a\\b"), "x").unwrap(),
            |w| listed(w, "a\\b"),
            NotFound,
            |w| listed(w, "f"),
        ),
    ]);
    assert_eq!(tried, 15);
}
