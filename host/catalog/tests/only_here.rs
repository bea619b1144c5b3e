//! Operations are named in the catalog only: other crates ask a row for what is true of it.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use qchost_catalog::OPERATIONS;

/// Crates that name operations of necessity: the catalog, the other end of the wire, fuzz targets and test helpers.
const NAMING: [&str; 4] = ["catalog", "emulator", "fuzz", "testing"];

fn named() -> HashSet<&'static str> {
    let names = OPERATIONS
        .iter()
        .flat_map(|operation| [operation.name, operation.tool, operation.endpoint]);
    names.filter(|name| !name.is_empty()).collect()
}

/// The lines of a source with a literal that is the name, the tool or the endpoint of an operation, up to its tests.
fn literals<'a>(source: &'a str, named: &HashSet<&str>) -> Vec<&'a str> {
    let source = source.split("\nmod tests {").next().unwrap();
    let lines = source.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with("//"))
        .filter(|line| {
            line.split('"')
                .skip(1)
                .step_by(2)
                .any(|it| named.contains(it))
        })
        .collect()
}

/// Whether a file is a module of tests, or of helpers for them.
fn is_for_tests(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.ends_with("testing.rs")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !is_for_tests(&path) {
            found.push(path);
        }
    }
}

#[test]
fn no_other_crate_names_an_operation() {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let source = entry.path().join("src");
        if source.is_dir() && !NAMING.iter().any(|name| entry.file_name() == *name) {
            sources(&source, &mut files);
        }
    }
    assert!(files.len() > 100, "only {} files were found", files.len());
    let named = named();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        found.extend(
            literals(&text, &named)
                .iter()
                .map(|line| format!("{}: {line}", file.display())),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_literal_name_is_found_unless_it_is_a_comment_or_a_test() {
    let named = named();
    for bad in [
        r#"if operation.name == "live/create-live-algorithm" {"#,
        r#"    "read_compile" | "create_compile" => true,"#,
        r#"matches!(operation.endpoint, "/object/get")"#,
    ] {
        assert_eq!(literals(bad, &named), [bad.trim()]);
    }
    for good in [
        "// \"read_compile\"",
        "println!(\"{} and read_compile\");",
        "#[cfg(test)]\nmod tests {\n    const TOOL: &str = \"read_compile\";",
    ] {
        assert_eq!(literals(good, &named), Vec::<&str>::new());
    }
}
