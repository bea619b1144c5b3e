//! The pages of the manual.

use std::collections::BTreeSet;
use std::process::Command;

use qchost_testing::has_program;

use crate::common::Folder;
use crate::verbs;

#[test]
fn the_manual_has_a_page_for_each_verb_that_groff_reads_without_complaint() {
    let folder = Folder::new("");
    let written = folder
        .run(&["--json", "man", "--output", "pages/man1"])
        .json();
    let pages = folder.path().join("pages/man1");
    let found: BTreeSet<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(written.as_array().unwrap().len(), found.len());

    let mut expected = BTreeSet::from(["qchost.1".to_owned()]);
    for verb in verbs::all(&folder) {
        // The page of `plugin` lists those below it.
        for words in 1..=verb.len() {
            expected.insert(format!("qchost-{}.1", verb[..words].join("-")));
        }
    }
    assert_eq!(found, expected);

    let has_groff = has_program("groff");
    for page in &found {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
        ] {
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(heading.iter().any(|it| text.contains(it)), "{page}: {text}");
        }
        if !has_groff {
            continue;
        }
        let checked = Command::new("groff")
            .args([
                "-Kutf8", "-man", "-Tutf8", "-z", "-wmac", "-wchar", "-wdelim", "-wescape",
            ])
            .arg(pages.join(page))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(
            checked.status.success() && said.is_empty(),
            "{page}: {said}"
        );
    }
}

#[test]
fn without_a_folder_the_page_about_qchost_is_printed() {
    let folder = Folder::new("");
    let page = folder.run(&["man"]);
    let page = &page.good().stdout;
    for words in [
        ".TH qchost 1",
        "QCHOST_CONFIG",
        "qchost.toml",
        "waiting for a person",
        "qchost\\-plugin(1)",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("supervise"), "{page}");
    // The examples of a verb keep their lines.
    folder.run(&["man", "--output", "pages"]).good();
    let page = std::fs::read_to_string(folder.path().join("pages/qchost-halt.1")).unwrap();
    assert!(page.contains("\nqchost halt \\-\\-list\n.fi"), "{page}");
}

#[test]
fn the_words_of_a_command_print_its_page_and_write_nothing() {
    let folder = Folder::new("");
    for (words, title) in [
        (&["plugin"][..], ".TH qchost-plugin 1"),
        (&["plugin", "list"], ".TH qchost-plugin-list 1"),
    ] {
        let ran = folder.run(&[&["man"], words].concat());
        assert!(ran.good().stdout.contains(title), "{ran:?}");
        assert!(!folder.path().join("plugin").exists());
    }
    for (words, near) in [
        (
            &["plugin", "lst"][..],
            "there is no command `plugin lst`; did you mean `list`?",
        ),
        (
            &["compile-component"],
            "there is no command `compile-component`",
        ),
    ] {
        let ran = folder.run(&[&["man"], words].concat());
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(near), "{ran:?}");
    }
}
