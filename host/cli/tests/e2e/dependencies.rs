//! The crates that the workspace depends on: their licences, sources and numbers of versions, by the rules of
//! `.deny.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

fn printed(program: &str, args: &[&str], folder: &Path) -> String {
    let ran = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

/// The problems of a list of packages under the rules.
fn problems(packages: &[Value], rules: &toml::Table) -> Vec<String> {
    let texts = |value: &toml::Value| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let licences = texts(&rules["licenses"]["allow"]);
    let exceptions = rules["licenses"].get("exceptions");
    let exceptions = exceptions.map_or(&[][..], |entries| entries.as_array().unwrap());
    let single = rules["bans"]["deny"].as_array().unwrap();
    let single: Vec<_> = single
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    let mut problems = Vec::new();
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = text("name");
        versions.entry(name).or_default().push(text("version"));
        let excepted = exceptions
            .iter()
            .filter(|entry| entry["crate"].as_str() == Some(name));
        let excepted: Vec<_> = excepted.flat_map(|entry| texts(&entry["allow"])).collect();
        let allowed = Expression::parse_mode(text("license"), ParseMode::LAX).is_ok_and(|it| {
            it.evaluate(|one| {
                let one = one.to_string();
                licences.contains(&one) || excepted.contains(&one)
            })
        });
        if !allowed {
            problems.push(format!("{name}: licence `{}`", text("license")));
        }
        // A package of the workspace has no source.
        let source = text("source");
        if !source.is_empty() && !source.starts_with("registry+") {
            problems.push(format!("{name}: comes from {source}"));
        }
    }
    for (name, versions) in versions {
        if versions.len() > 1 && single.contains(&name) {
            problems.push(format!("{name}: versions {}", versions.join(", ")));
        }
    }
    problems
}

#[test]
fn licences_and_versions_are_as_the_rules_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rules: toml::Table = std::fs::read_to_string(root.join(".deny.toml"))
        .unwrap()
        .parse()
        .unwrap();
    // Only what is built on this system: the crates of others may not have been fetched.
    let compiler = printed("rustc", &["-vV"], &root);
    let mut lines = compiler.lines();
    let target = lines.find_map(|line| line.strip_prefix("host: ")).unwrap();
    // A workspace below, whose lock file is older than the dependencies of the crates that it uses, fails here as well;
    // `cargo metadata` in its folder updates it.
    for (workspace, least) in [
        (".", 300),
        ("host/fuzz", 200),
        ("host/cli/tests/plugins", 10),
    ] {
        let listed = printed(
            env!("CARGO"),
            &[
                "metadata",
                "--format-version=1",
                "--locked",
                "--filter-platform",
                target,
            ],
            &root.join(workspace),
        );
        let metadata: Value = serde_json::from_str(&listed).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        assert!(packages.len() > least, "{workspace}: {}", packages.len());
        assert_eq!(
            problems(packages, &rules),
            Vec::<String>::new(),
            "{workspace}"
        );
    }
}

#[test]
fn a_licence_a_source_and_a_second_version_are_noticed() {
    let rules = "[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"engine\", allow = [\"NCSA\"] }]\n[bans]\ndeny = [{ name = \"tokio\" }]\n";
    let package = |name: &str, version: &str, license: &str, source: &str| serde_json::json!({ "name": name, "version": version, "license": license, "source": source });
    let found = problems(
        &[
            package(
                "tokio",
                "1.0.0",
                "MIT/Apache-2.0",
                "registry+https://example.com",
            ),
            package("tokio", "2.0.0", "MIT", ""),
            package("engine", "1.0.0", "MIT AND NCSA", ""),
            package("other", "1.0.0", "MIT AND NCSA", ""),
            package("copyleft", "1.0.0", "GPL-3.0-only AND MIT", ""),
            package("forked", "1.0.0", "MIT", "git+https://example.com/forked"),
        ],
        &rules.parse().unwrap(),
    );
    assert_eq!(
        found,
        [
            "other: licence `MIT AND NCSA`",
            "copyleft: licence `GPL-3.0-only AND MIT`",
            "forked: comes from git+https://example.com/forked",
            "tokio: versions 1.0.0, 2.0.0",
        ]
    );
}
