//! The documents: every file of the repository that they name exists.

use std::path::{Component, Path};

use qchost_testing::DOCUMENTS;

use crate::common::repository;

/// A name that begins with one of these is a path from the top of the repository.
const FOLDERS: [&str; 5] = ["host/", "wit/", "sdk/", "plugins/", ".ci/"];
/// Any other name is a file of the repository if it ends like this.
const EXTENSIONS: [&str; 3] = [".rs", ".wit", ".md"];

/// The names that are not there, each with its line. `folder` is the document's.
fn missing(root: &Path, folder: &Path, text: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut fenced = false;
    // The folder that short names are relative to, from the heading above them.
    let mut base = root.join(folder);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("```") {
            continue;
        }
        if line.starts_with('#') {
            let named = spans(line).find(|name| is_from_the_top(name));
            base = root.join(named.map_or(folder, Path::new));
        }
        let named = spans(line).filter_map(|name| {
            if is_from_the_top(name) {
                Some(root.join(name))
            } else {
                is_short(name).then(|| base.join(name))
            }
        });
        let linked = links(line).map(|target| root.join(folder).join(target));
        for path in named.chain(linked) {
            if !path.exists() {
                missing.push(format!("line {}: {}", number + 1, path.display()));
            }
        }
    }
    missing
}

/// The texts in backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of links into the repository, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
        .filter_map(|target| target.split('#').next())
}

fn is_from_the_top(name: &str) -> bool {
    is_path(name) && FOLDERS.iter().any(|folder| name.starts_with(folder))
}

fn is_short(name: &str) -> bool {
    is_path(name) && !name.starts_with('.') && EXTENSIONS.iter().any(|end| name.ends_with(end))
}

/// Whether it can be a path inside the repository: no pattern, no command, nothing outside.
fn is_path(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    name.chars().all(plain)
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[test]
fn every_file_that_a_document_names_exists() {
    let root = repository(".");
    let mut all = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let folder = Path::new(document).parent().unwrap();
        let missing = missing(&root, folder, &text);
        all.extend(missing.iter().map(|what| format!("{document}, {what}")));
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn a_file_that_is_not_there_is_noticed() {
    let root = repository(".");
    let text = "`host/nowhere.rs`, `host/*/nowhere.rs`, `../nowhere.rs`\n\
                ## Short names: `host/cli/src`\n`main.rs`, `nowhere.rs`\n\
                ```\n`nowhere.rs`\n```\n[here](README.md#a), [not](NOWHERE.md)\n";
    let found = missing(&root, Path::new("host"), text);
    let named = |path: &str| root.join(path).display().to_string();
    assert_eq!(
        found,
        [
            format!("line 1: {}", named("host/nowhere.rs")),
            format!("line 3: {}", named("host/cli/src/nowhere.rs")),
            format!("line 7: {}", named("host/NOWHERE.md")),
        ]
    );
}
