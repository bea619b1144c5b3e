//! What other programs rename while a plugin uses the folder.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{RenameFlags, renameat_with};

use super::*;

/// Exchanges two paths again and again while `attempt` is made, and returns how often it succeeded.
fn while_exchanged(one: &Path, other: &Path, mut attempt: impl FnMut(usize) -> bool) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exchanging = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Until both have happened, so that the exchange is seen from both sides.
        let (mut succeeded, mut failed) = (0, 0);
        for round in 0..5000 {
            match attempt(round) {
                true => succeeded += 1,
                false => failed += 1,
            }
            if round > 100 && succeeded > 10 && failed > 10 {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        exchanging.join().unwrap();
        succeeded
    })
}

#[test]
fn a_folder_that_is_exchanged_for_a_link_leads_nowhere_else() {
    let world = World::new();
    let folder = world.folder();
    let (d, l) = (world.granted.join("d"), world.granted.join("l"));
    fs::create_dir(&d).unwrap();
    fs::write(d.join("secret"), "inside").unwrap();
    link(&world, "../outside", "l");
    let before = contents(&world.outside);
    let read = while_exchanged(&d, &l, |_| match folder.read("d/secret") {
        Ok(content) => {
            assert_eq!(content, b"inside");
            true
        }
        Err(error) => {
            assert!(!matches!(error, FolderError::Unavailable(_)), "{error}");
            false
        }
    });
    let listed = while_exchanged(&d, &l, |_| {
        let files = folder.list("d/").unwrap();
        assert!(files.iter().all(|file| file.size == 6), "{files:?}");
        !files.is_empty()
    });
    let wrote = while_exchanged(&d, &l, |_| {
        folder.write("d/new", b"x", &Expectation::Anything).is_ok()
    });
    let deleted = while_exchanged(&d, &l, |_| {
        let _ = folder.write("d/secret", b"inside", &Expectation::Anything);
        folder.delete("d/secret", &Expectation::Anything).is_ok()
    });
    assert_eq!(contents(&world.outside), before);
    for succeeded in [read, listed, wrote, deleted] {
        assert!(succeeded > 0);
    }
}

#[test]
fn a_file_that_is_exchanged_for_a_link_a_pipe_or_a_hard_link_leads_nowhere_else() {
    for prepare in [
        (|w| link(w, "../outside/secret", "pipe")) as fn(&World),
        |w| hard_link(w, "pipe"),
        pipe,
    ] {
        let world = World::new();
        let folder = world.folder();
        let (f, p) = (world.granted.join("f"), world.granted.join("pipe"));
        fs::write(&f, "inside").unwrap();
        prepare(&world);
        let before = contents(&world.outside);
        let read = while_exchanged(&f, &p, |_| match folder.read("f") {
            Ok(content) => {
                assert_eq!(content, b"inside");
                true
            }
            Err(_) => false,
        });
        assert!(read > 0);
        assert_eq!(contents(&world.outside), before);
    }
}

#[test]
fn a_folder_that_is_moved_away_and_back_leaves_no_write_outside() {
    let world = World::new();
    let folder = world.folder();
    let (inside, away) = (world.granted.join("d"), world.outside.join("away"));
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("kept"), "x").unwrap();
    let before = contents(&world.outside);
    let done = AtomicBool::new(false);
    let wrote = std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(&inside, &away).unwrap();
                std::thread::yield_now();
                // A write may have made another in its place.
                while fs::rename(&away, &inside).is_err() {
                    let _ = fs::remove_dir_all(&inside);
                }
            }
        });
        let mut wrote = 0;
        for _ in 0..500 {
            let written = folder.write("d/new", b"x", &Expectation::Anything);
            wrote += usize::from(written.is_ok());
            let _ = folder.delete("d/new", &Expectation::Anything);
        }
        done.store(true, Ordering::Relaxed);
        moving.join().unwrap();
        wrote
    });
    assert!(wrote > 0);
    assert_eq!(contents(&world.outside), before);
}
