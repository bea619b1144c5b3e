//! What is not a regular file of this file system.

use std::process::Command;

use qchost_testing::in_own_run;
use rustix::fs::makedev;

use super::*;

#[test]
fn nothing_but_a_regular_file_is_used() {
    let tried = try_all(&[
        (
            "a pipe",
            pipe,
            |w| read(w, "pipe"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a write to a pipe",
            pipe,
            |w| write(w, "pipe"),
            Conflict,
            |w| write(w, "f"),
        ),
        (
            "a deleted pipe",
            pipe,
            |w| delete(w, "pipe"),
            NotFound,
            |w| delete(w, "f"),
        ),
        (
            "a pipe that is listed",
            pipe,
            |w| listed(w, "pipe"),
            NotFound,
            |w| listed(w, "f"),
        ),
        (
            "a socket",
            |w| drop(std::os::unix::net::UnixListener::bind(w.granted.join("s")).unwrap()),
            |w| read(w, "s"),
            NotFound,
            |w| read(w, "f"),
        ),
        (
            "a folder as a file",
            nothing,
            |w| read(w, "d"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "a write to a folder",
            nothing,
            |w| write(w, "d"),
            Conflict,
            |w| write(w, "d/f"),
        ),
        (
            "a deleted folder",
            nothing,
            |w| delete(w, "d"),
            NotFound,
            |w| delete(w, "d/f"),
        ),
        (
            "a file as a folder",
            nothing,
            |w| read(w, "f/f"),
            NotFound,
            |w| read(w, "d/f"),
        ),
        (
            "a write below a file",
            nothing,
            |w| write(w, "f/f"),
            Conflict,
            |w| write(w, "g/f"),
        ),
    ]);
    assert_eq!(tried, 10);
}

#[test]
fn no_mount_and_no_device_leads_out() {
    fn mount(arguments: &[&str], at: &Path) {
        let ran = Command::new("mount").args(arguments).arg(at).status();
        assert!(ran.unwrap().success(), "{arguments:?}");
    }
    fn other(w: &World) {
        mount(&["-t", "tmpfs", "qchost-test"], &w.granted.join("d"));
        fs::write(w.granted.join("d/f"), SECRET).unwrap();
    }
    fn bound(w: &World) {
        mount(
            &["--bind", w.outside.to_str().unwrap()],
            &w.granted.join("d"),
        );
    }
    fn bound_file(w: &World) {
        let secret = w.outside.join("secret");
        mount(&["--bind", secret.to_str().unwrap()], &w.granted.join("f"));
    }
    fn device(w: &World) {
        let mode = Mode::from_raw_mode(0o666);
        let null = makedev(1, 3);
        mknodat(
            CWD,
            w.granted.join("null"),
            FileType::CharacterDevice,
            mode,
            null,
        )
        .unwrap();
        mknodat(
            CWD,
            w.granted.join("disk"),
            FileType::BlockDevice,
            mode,
            makedev(7, 0),
        )
        .unwrap();
    }
    fn free(w: &World) -> Result<Vec<u8>, FolderError> {
        write(w, "e/f")
    }
    in_own_run(|| {
        let tried = try_all(&[
            (
                "another file system",
                other,
                |w| read(w, "d/f"),
                NotFound,
                free,
            ),
            (
                "a write to another file system",
                other,
                |w| write(w, "d/f"),
                Conflict,
                free,
            ),
            (
                "a new file of another file system",
                other,
                |w| write(w, "d/new"),
                Conflict,
                free,
            ),
            (
                "deleted from another file system",
                other,
                |w| delete(w, "d/f"),
                NotFound,
                |w| delete(w, "f"),
            ),
            (
                "another file system that is listed",
                other,
                |w| list(w, "d/"),
                NotFound,
                |w| list(w, ""),
            ),
            (
                "the same file system by a mount",
                bound,
                |w| read(w, "d/secret"),
                NotFound,
                free,
            ),
            (
                "a write through a mount",
                bound,
                |w| write(w, "d/new"),
                Conflict,
                free,
            ),
            (
                "a mount that is listed",
                bound,
                |w| listed(w, "d/secret"),
                NotFound,
                |w| listed(w, "f"),
            ),
            (
                "a mounted file",
                bound_file,
                |w| read(w, "f"),
                NotFound,
                |w| read(w, "d/f"),
            ),
            (
                "a write to a mounted file",
                bound_file,
                |w| write(w, "f"),
                Conflict,
                |w| write(w, "d/f"),
            ),
            (
                "a mounted file that is listed",
                bound_file,
                |w| listed(w, "f"),
                NotFound,
                |w| listed(w, "d/f"),
            ),
            (
                "a device",
                device,
                |w| read(w, "null"),
                NotFound,
                |w| read(w, "f"),
            ),
            (
                "a write to a device",
                device,
                |w| write(w, "null"),
                Conflict,
                |w| write(w, "f"),
            ),
            (
                "a deleted device",
                device,
                |w| delete(w, "null"),
                NotFound,
                |w| delete(w, "f"),
            ),
            (
                "a disk",
                device,
                |w| read(w, "disk"),
                NotFound,
                |w| read(w, "f"),
            ),
        ]);
        assert_eq!(tried, 15);
    });
}
