//! Resources of the machine: disk space, open files, and the clock.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::report::{Mark, Report};

/// Free bytes below which a host cannot reliably record what it does.
const MIN_BYTES: u64 = 32 << 20;
/// Free bytes below which a warning is due.
const LOW_BYTES: u64 = 256 << 20;
/// The lower limit for free inodes.
const MIN_INODES: u64 = 200;
const LOW_INODES: u64 = 5_000;
/// Bytes written to test for space.
const TEST_WRITE_BYTES: usize = 64 * 1024;
/// Open files below which a host cannot serve, and below which it serves few clients.
const MIN_FILES: u64 = 256;
const LOW_FILES: u64 = 4_096;

/// Free space of a file system. A total of 0 means unknown.
#[derive(Debug, Clone, Copy)]
struct Space {
    free: u64,
    free_inodes: u64,
    inodes: u64,
}

/// Checks whether a missing folder can be created, and returns its closest existing parent. Leaves nothing behind.
pub fn can_be_made(folder: &Path) -> io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    let mut above = folder.ancestors().skip(1);
    let above = above
        .find(|above| above.symlink_metadata().is_ok())
        .unwrap_or(Path::new("/"));
    match tempfile::NamedTempFile::new_in(above) {
        // The disk has a check of its own.
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(above.to_owned()),
    }
}

/// Whether there is room for files in a folder.
pub fn disk(report: &mut Report, what: &str, folder: &Path) {
    let shown = folder.display();
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let room = Space {
                free: found.f_bavail.saturating_mul(found.f_frsize),
                free_inodes: found.f_favail,
                inodes: found.f_files,
            };
            let (mark, finding) = space(room);
            let fix = format!("make room on the disk of {shown}: df -h {shown}");
            report.add(format!("{what}: disk space"), mark, finding, Some(fix));
            let (mark, finding) = inodes(room);
            let fix = format!("remove small files from the disk of {shown}: df -i {shown}");
            report.add(format!("{what}: inodes"), mark, finding, Some(fix));
        }
        Err(error) => report.unknown(
            format!("{what}: disk space"),
            format!("the file system of {shown} does not tell: {error}"),
        ),
    }
    // Free space may be reserved for another user, or beyond a quota.
    let mut written = tempfile::NamedTempFile::new_in(folder);
    let written = written
        .as_mut()
        .map_err(|error| io::Error::from(error.kind()));
    let written = written.and_then(|file| {
        file.write_all(&[0; TEST_WRITE_BYTES])?;
        file.as_file().sync_all()
    });
    if let Err(error) = written {
        report.fail(
            format!("{what}: writing"),
            format!("{TEST_WRITE_BYTES} bytes cannot be written in {shown}: {error}"),
            format!("make room for this user on the disk of {shown}, or repair it"),
        );
    }
}

/// How an amount is judged, by what is too few for a host and what soon may be.
fn mark(amount: u64, few: u64, soon_few: u64) -> Mark {
    match amount {
        amount if amount < few => Mark::Failed,
        amount if amount < soon_few => Mark::Warning,
        _ => Mark::Ok,
    }
}

fn space(room: Space) -> (Mark, String) {
    let mark = mark(room.free, MIN_BYTES, LOW_BYTES);
    let mut finding = format!("{} MiB free", room.free >> 20);
    if mark == Mark::Failed {
        finding += &format!(
            "; a host needs {} MiB to record what it does",
            MIN_BYTES >> 20
        );
    }
    (mark, finding)
}

fn inodes(room: Space) -> (Mark, String) {
    if room.inodes == 0 {
        return (Mark::Ok, "not limited".to_owned());
    }
    let finding = format!("{} files can be made", room.free_inodes);
    (mark(room.free_inodes, MIN_INODES, LOW_INODES), finding)
}

/// Whether a host may open enough files.
pub fn files(report: &mut Report) {
    let what = "open files";
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        // A host raises its limit to the hard one.
        Ok((_, limit)) => limit,
        Err(error) => return report.unknown(what, format!("the limit cannot be read: {error}")),
    };
    let fix = format!(
        "let the host open {LOW_FILES} files or more: LimitNOFILE= of a systemd unit, or `ulimit -Hn`"
    );
    let mark = mark(limit, MIN_FILES, LOW_FILES);
    report.add(what, mark, format!("{limit} at a time"), Some(fix));
}

/// Whether the machine's clock is synchronised. `root` is `/`.
pub fn time_source(report: &mut Report, root: &Path) {
    let what = "time source";
    let has = |path: &str| root.join(path).exists();
    if has("run/systemd/timesync/synchronized") {
        return report.ok(what, "systemd-timesyncd has synchronised the clock");
    }
    if has("run/systemd/timesync") {
        return report.warn(
            what,
            "systemd-timesyncd runs, and has not synchronised the clock",
            "see why: timedatectl timesync-status",
        );
    }
    for (service, files) in [
        ("chrony", ["run/chrony/chronyd.pid", "run/chronyd.pid"]),
        ("ntpd", ["run/ntpd.pid", "var/run/ntpd.pid"]),
    ] {
        if files.into_iter().any(has) {
            return report.ok(what, format!("{service} runs"));
        }
    }
    report.unknown(
        what,
        "no time service is seen from here; in a container, the machine around it keeps the time",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(report: &Report) -> Mark {
        report.0.first().unwrap().mark
    }

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let room = |free, free_inodes| Space {
            free,
            free_inodes,
            inodes: 1_000_000,
        };
        for (free, mark) in [
            (0, Mark::Failed),
            (MIN_BYTES - 1, Mark::Failed),
            (MIN_BYTES, Mark::Warning),
            (LOW_BYTES, Mark::Ok),
        ] {
            assert_eq!(space(room(free, 0)).0, mark, "{free}");
        }
        for (free, mark) in [
            (0, Mark::Failed),
            (MIN_INODES, Mark::Warning),
            (LOW_INODES, Mark::Ok),
        ] {
            assert_eq!(inodes(room(0, free)).0, mark, "{free}");
        }
        let unlimited = Space {
            inodes: 0,
            ..room(0, 0)
        };
        assert_eq!(inodes(unlimited).0, Mark::Ok);
    }

    #[test]
    fn a_folder_that_nothing_can_be_written_in_fails_by_itself() {
        let mut report = Report::default();
        disk(&mut report, "data", Path::new("/proc/self"));
        let writing = report.0.iter().find(|check| check.what == "data: writing");
        assert_eq!(writing.unwrap().mark, Mark::Failed);
        let mut report = Report::default();
        disk(&mut report, "data", tempfile::tempdir().unwrap().path());
        assert!(report.0.iter().all(|check| check.what != "data: writing"));
    }

    #[test]
    fn the_time_source_is_what_the_machine_runs() {
        let root = tempfile::tempdir().unwrap();
        let found = || {
            let mut report = Report::default();
            time_source(&mut report, root.path());
            only(&report)
        };
        assert_eq!(found(), Mark::Unknown);
        std::fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
        assert_eq!(found(), Mark::Warning);
        std::fs::write(root.path().join("run/systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(found(), Mark::Ok);
    }
}
