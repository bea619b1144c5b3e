//! Links of both kinds.

use super::*;

#[test]
fn no_link_leads_out() {
    let tried = try_all(&[
        (
            "a link",
            |w| link(w, &absolute(w, "outside/secret"), "l"),
            |w| read(w, "l"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a relative link",
            |w| link(w, "../outside/secret", "l"),
            |w| read(w, "l"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a link inside",
            |w| link(w, "f", "l"),
            |w| read(w, "l"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a linked folder",
            |w| link(w, "../outside", "l"),
            |w| read(w, "l/secret"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "a linked folder inside",
            |w| link(w, "d", "l"),
            |w| read(w, "l/f"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "the root by a link",
            |w| link(w, "/", "l"),
            |w| read(w, "l/etc/passwd"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "the root by /proc",
            |w| link(w, "/proc/self/root", "l"),
            |w| read(w, "l/etc/passwd"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "a descriptor by /proc",
            |w| link(w, "/proc/self/fd/0", "l"),
            |w| read(w, "l"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a chain of links",
            |w| {
                link(w, "../outside/secret", "l1");
                link(w, "l1", "l2");
            },
            |w| read(w, "l2"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a link to itself",
            |w| link(w, "l", "l"),
            |w| read(w, "l"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a link that is listed",
            |w| link(w, "../outside/secret", "l"),
            |w| listed(w, "l"),
            NotFound,
            |w| listed(w, "f"),
        ),
        (
            "a linked folder that is listed",
            |w| link(w, "../outside", "l"),
            |w| list(w, "l/"),
            NotFound,
            |w| list(w, "d/"),
        ),
        (
            "a write to a link",
            |w| link(w, "../outside/secret", "l"),
            |w| write(w, "l"),
            Conflict,
            |w| write(w, "f"),
        ),
        (
            "a write to a link to nothing",
            |w| link(w, "../outside/new", "l"),
            |w| write(w, "l"),
            Conflict,
            |w| write(w, "new"),
        ),
        (
            "a write into a linked folder",
            |w| link(w, "../outside", "l"),
            |w| write(w, "l/new"),
            Conflict,
            |w| write(w, "d/new"),
        ),
        (
            "a folder made in a linked one",
            |w| link(w, "../outside", "l"),
            |w| write(w, "l/new/f"),
            Conflict,
            |w| write(w, "d/new/f"),
        ),
        (
            "a deleted link",
            |w| link(w, "../outside/secret", "l"),
            |w| delete(w, "l"),
            NotFound,
            |w| delete(w, "f"),
        ),
        (
            "deleted in a linked folder",
            |w| link(w, "../outside", "l"),
            |w| delete(w, "l/secret"),
            NotFound,
            |w| delete(w, "d/f"),
        ),
        (
            "a hard link",
            |w| hard_link(w, "h"),
            |w| read(w, "h"),
            NotFound,
            |w| {
                fs::remove_file(w.outside.join("secret")).unwrap();
                let read = read(w, "h");
                fs::rename(w.granted.join("h"), w.outside.join("secret")).unwrap();
                read
            },
        ),
        (
            "a write to a hard link",
            |w| hard_link(w, "h"),
            |w| write(w, "h"),
            Conflict,
            |w| write(w, "f"),
        ),
        (
            "a deleted hard link",
            |w| hard_link(w, "h"),
            |w| delete(w, "h"),
            NotFound,
            |w| delete(w, "f"),
        ),
        (
            "a hard link that is listed",
            |w| hard_link(w, "h"),
            |w| listed(w, "h"),
            NotFound,
            |w| listed(w, "f"),
        ),
    ]);
    assert_eq!(tried, 22);
}
