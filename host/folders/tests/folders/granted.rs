//! What a granted folder does where nothing is in the way.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{self, World, digest, grant};
use qchost_folders::{Expectation, Folder, FolderError, Folders, Grant, OpenError, Place, Places};

#[test]
fn a_file_is_written_read_listed_and_deleted_with_its_folders() {
    let world = World::new();
    let folder = world.folder();
    folder
        .write("reports/2026/q1.csv", b"one", &Expectation::Absent)
        .unwrap();
    folder
        .write("reports/b", b"three", &Expectation::Anything)
        .unwrap();
    folder.write("a", b"", &Expectation::Anything).unwrap();
    assert_eq!(folder.read("reports/2026/q1.csv").unwrap(), b"one");
    let listed = |prefix: &str| {
        let files = folder.list(prefix).unwrap();
        files
            .into_iter()
            .map(|file| (file.path, file.size))
            .collect::<Vec<_>>()
    };
    let (a, b, q1) = (("a", 0), ("reports/b", 5), ("reports/2026/q1.csv", 3));
    let all = [a, q1, b].map(|(path, size)| (path.to_owned(), size));
    assert_eq!(listed(""), all);
    assert_eq!(listed("reports/"), all[1..]);
    assert_eq!(listed("rep"), all[1..]);
    assert_eq!(listed("reports/2"), all[1..2]);
    assert_eq!(listed("reports/2026/x"), []);
    assert_eq!(listed("none/"), []);
    let file = &folder.list("a").unwrap()[0];
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(
        now.abs_diff(file.modified) < Duration::from_secs(600),
        "{file:?}"
    );

    folder
        .write("a", b"new", &Expectation::Digest(digest(b"")))
        .unwrap();
    assert_eq!(
        folder
            .delete("reports/2026/q1.csv", &Expectation::Anything)
            .unwrap(),
        3
    );
    assert!(!world.granted.join("reports/2026").exists());
    assert_eq!(
        folder
            .delete("reports/b", &Expectation::Digest(digest(b"three")))
            .unwrap(),
        5
    );
    assert!(!world.granted.join("reports").exists() && world.granted.is_dir());
    assert_eq!(folder.delete("a", &Expectation::Anything).unwrap(), 3);
    assert_eq!(common::names(&world.granted), [""; 0]);
}

#[test]
fn a_replaced_file_keeps_its_rights_and_a_refused_change_leaves_nothing() {
    let world = World::new();
    let folder = world.folder();
    let path = world.granted.join("f");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o4640)).unwrap();
    folder.write("f", b"new", &Expectation::Anything).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");

    let conflict = folder.write("new/folder/f", b"x", &Expectation::Digest(digest(b"")));
    assert!(
        matches!(conflict, Err(FolderError::Conflict(_))),
        "{conflict:?}"
    );
    let in_the_way = folder.write("new/f/../g", b"x", &Expectation::Anything);
    assert!(matches!(in_the_way, Err(FolderError::InvalidPath(_))));
    assert_eq!(common::names(&world.granted), ["f"]);
}

#[test]
fn a_reader_sees_the_old_content_or_the_new_one() {
    let world = World::new();
    let (writer, reader) = (world.folder(), world.folder());
    let contents = [vec![b'a'; 100_000], vec![b'b'; 200_000]];
    writer
        .write("f", &contents[0], &Expectation::Absent)
        .unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for content in contents.iter().cycle().take(40) {
                writer.write("f", content, &Expectation::Anything).unwrap();
            }
        });
        while !writing.is_finished() {
            let content = reader.read("f").unwrap();
            assert!(contents.contains(&content), "{} bytes", content.len());
            assert_eq!(reader.list("").unwrap().len(), 1);
        }
    });
    assert_eq!(common::names(&world.granted), ["f"]);
}

#[test]
fn writes_at_the_same_time_keep_to_the_quota() {
    let world = World::new();
    let folders = [world.with_quota(1000, 5), world.with_quota(1000, 5)];
    let wrote: usize = std::thread::scope(|scope| {
        let threads = folders
            .iter()
            .enumerate()
            .flat_map(|(at, folder)| (0..8).map(move |n| (format!("{at}-{n}"), folder)));
        let threads: Vec<_> = threads
            .map(|(name, folder)| {
                scope.spawn(move || folder.write(&name, &[0; 10], &Expectation::Absent).is_ok())
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!((wrote, common::names(&world.granted).len()), (5, 5));
}

#[test]
fn of_two_writers_that_expect_the_same_content_one_wins() {
    let world = World::new();
    let folders: [Folder; 4] = std::array::from_fn(|_| world.folder());
    folders[0]
        .write("f", b"start", &Expectation::Absent)
        .unwrap();
    let expected = Expectation::Digest(digest(b"start"));
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = folders
            .iter()
            .enumerate()
            .map(|(at, folder)| {
                let expected = &expected;
                scope.spawn(move || {
                    folder
                        .write("f", at.to_string().as_bytes(), expected)
                        .is_ok()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn what_an_interrupted_write_left_is_not_listed_and_goes_after_an_hour() {
    let world = World::new();
    let folder = world.folder();
    let name = format!(".qchost-{}.tmp", "ab".repeat(16));
    let left = world.granted.join(&name);
    std::fs::write(&left, "half").unwrap();
    folder.write("f", b"x", &Expectation::Anything).unwrap();
    assert!(left.exists());
    assert_eq!(folder.list("").unwrap().len(), 1);
    let old = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    let file = std::fs::File::options().write(true).open(&left).unwrap();
    file.set_modified(old).unwrap();
    folder.write("g", b"x", &Expectation::Anything).unwrap();
    assert_eq!(common::names(&world.granted), ["f", "g"]);
}

#[test]
fn folders_are_found_by_the_names_of_their_grants() {
    let world = World::new();
    let folders = Folders::open([grant("out", &world.granted)], &Places::default()).unwrap();
    assert_eq!(folders.get("out").unwrap().grant().name, "out");
    let other = folders.get("other").unwrap_err();
    assert!(
        matches!(&other, FolderError::NotGranted(why) if why.contains("`other`")),
        "{other}"
    );
    assert_eq!(folders.iter().count(), 1);
}

#[test]
fn a_folder_that_two_grants_are_about_has_the_narrower_of_each_bound() {
    let world = World::new();
    let folder = world.with_quota(100, 2);
    let other = Grant {
        max_bytes: 50,
        max_files: 5,
        ..grant("other", &world.granted)
    };
    let both = folder.narrowed(&other).unwrap();
    let Grant {
        name,
        writable,
        max_bytes,
        max_files,
        ..
    } = both.grant();
    assert_eq!(
        (name.as_str(), *writable, *max_bytes, *max_files),
        ("out", true, 50, 2)
    );
    both.write("f", &[0; 50], &Expectation::Absent).unwrap();
    let exceeded = both.write("f", &[0; 51], &Expectation::Anything);
    assert!(matches!(exceeded, Err(FolderError::QuotaExceeded(_))));
    folder.write("f", &[0; 51], &Expectation::Anything).unwrap();
    let reading = Grant {
        writable: false,
        ..other.clone()
    };
    let refused = folder.narrowed(&reading).unwrap().check_writable();
    assert!(matches!(refused, Err(FolderError::ReadOnly(_))));
    let elsewhere = grant("out", &world.outside);
    assert!(folder.narrowed(&elsewhere).is_none());
}

#[test]
fn folders_that_were_made_again_are_others() {
    let world = World::new();
    let open = || Folders::open([grant("out", &world.granted)], &Places::default()).unwrap();
    let folders = open();
    assert!(folders.are_same(&open()));
    let other = Grant {
        max_files: 1,
        ..grant("out", &world.granted)
    };
    let other = Folders::open([other], &Places::default()).unwrap();
    assert!(!folders.are_same(&other) && !folders.are_same(&Folders::default()));
    std::fs::rename(&world.granted, world.base.path().join("moved")).unwrap();
    std::fs::create_dir(&world.granted).unwrap();
    assert!(!folders.are_same(&open()));
}

#[test]
fn what_is_not_a_folder_is_not_opened() {
    let world = World::new();
    std::fs::write(world.granted.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&world.outside, world.granted.join("link")).unwrap();
    let open = |path: &Path| Folder::open(grant("out", path), &Places::default());
    for name in ["file", "link", "none"] {
        let refused = open(&world.granted.join(name)).unwrap_err();
        assert!(
            matches!(refused, OpenError::NotAFolder { .. }),
            "{name}: {refused}"
        );
    }
    let relative = open(Path::new("relative")).unwrap_err();
    assert!(matches!(relative, OpenError::Relative { .. }), "{relative}");
    open(&world.granted).unwrap();
}

#[test]
fn a_folder_is_apart_from_what_is_never_granted() {
    let world = World::new();
    let base = world.base.path();
    let of = |text: &str| base.join(text);
    for folder in ["data/state", "homes/ann/reports", "keys", "free"] {
        std::fs::create_dir_all(of(folder)).unwrap();
    }
    std::fs::write(of("keys/token"), "secret").unwrap();
    std::os::unix::fs::symlink(of("data"), of("alias")).unwrap();
    let places = Places::find(vec![
        Place::apart(of("data"), "the host's data folder"),
        Place::apart(of("later/cache"), "the host's cache folder"),
        Place::apart(of("keys/token"), "a secret"),
        Place::within(of("homes/ann"), "a user's home"),
        Place::within("/", "the root of the file system"),
    ]);
    std::fs::create_dir(of("later")).unwrap();
    let open = |path: &Path| Folder::open(grant("out", path), &places);
    for (path, relation, what) in [
        (of("data"), "is", "data"),
        (of("data/state"), "lies in", "data"),
        (of("alias/state"), "lies in", "data"),
        (of("data/../data/state"), "lies in", "data"),
        (base.to_owned(), "contains", "data"),
        (of("keys"), "contains", "secret"),
        (of("homes/ann"), "is", "home"),
        (of("homes"), "contains", "home"),
        ("/".into(), "is", "root"),
    ] {
        let refused = open(&path).unwrap_err();
        let text = refused.to_string();
        let OpenError::Forbidden { place, .. } = refused else {
            panic!("{}: {text}", path.display());
        };
        for part in [
            path.to_str().unwrap(),
            relation,
            what,
            place.to_str().unwrap(),
            "apart",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    for path in ["free", "homes/ann/reports"] {
        open(&of(path)).unwrap();
    }
    // One that did not exist when the places were found: what would have contained it is refused.
    let root = Places::find(vec![Place::apart(
        of("free/later/cache"),
        "the host's cache folder",
    )]);
    assert!(Folder::open(grant("out", &of("free")), &root).is_err());
}

#[test]
fn a_folder_that_was_moved_is_unknown_and_not_empty() {
    let world = World::new();
    let folder = world.folder();
    folder.write("f", b"x", &Expectation::Anything).unwrap();
    let moved = world.base.path().join("moved");
    std::fs::rename(&world.granted, &moved).unwrap();
    let every = || {
        [
            folder.list("").err(),
            folder.read("f").err(),
            folder.write("g", b"x", &Expectation::Anything).err(),
            folder.delete("f", &Expectation::Anything).err(),
        ]
    };
    for error in every() {
        assert!(
            matches!(error, Some(FolderError::Unavailable(_))),
            "{error:?}"
        );
    }
    std::fs::create_dir(&world.granted).unwrap();
    for error in every() {
        assert!(
            matches!(error, Some(FolderError::Unavailable(_))),
            "{error:?}"
        );
    }
    assert!(!folder.is_in_place());
    std::fs::remove_dir(&world.granted).unwrap();
    std::fs::rename(&moved, &world.granted).unwrap();
    assert!(folder.is_in_place());
    assert_eq!(folder.read("f").unwrap(), b"x");
}
