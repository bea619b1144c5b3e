//! `qchost validate`: checks configurations, manifests, guardrails and components without running any of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use qchost_policy::{Guardrails, Manifest, read_text};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Config;
use crate::manifests;
use crate::output::{Output, part_is, words};
use crate::places;
use crate::verbs::plugin;

#[derive(Debug, Serialize, JsonSchema)]
pub struct FileResult {
    file: String,
    kind: &'static str,
    /// Number of guardrails in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Checks every file, prints one line each, and fails if one of them is invalid. Manifests are checked against the
/// configuration too, if there is a readable one, and components are compiled as its host does.
pub async fn run(files: &[PathBuf], config: Option<&Config>, output: Output) -> Result<()> {
    let mut results = Vec::new();
    for path in files {
        let (kind, checked) = check(path, config).await;
        let (error, found) = match checked {
            Ok(found) => (None, found),
            Err(error) => (Some(words(&error)), Facts::default()),
        };
        results.push(FileResult {
            file: path.display().to_string(),
            kind,
            rules: found.rules,
            error,
            warnings: found.warnings,
        });
    }
    let bad = results
        .iter()
        .filter(|result| result.error.is_some())
        .count();
    output.result(&results, |results| {
        let lines = |result: &FileResult| {
            let FileResult { file, kind, .. } = result;
            let mut lines = vec![match &result.error {
                Some(error) => format!("FAILED  {file} ({kind}): {error}"),
                None => match result.rules {
                    Some(rules) => format!("ok      {file} ({rules} {kind})"),
                    None => format!("ok      {file} ({kind})"),
                },
            }];
            let warnings = result.warnings.iter();
            lines.extend(warnings.map(|warning| format!("warning {file} ({kind}): {warning}")));
            lines
        };
        results
            .iter()
            .flat_map(lines)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    if bad > 0 {
        bail!("{} not valid", part_is(bad, results.len(), "file"));
    }
    Ok(())
}

/// Facts about a valid file.
#[derive(Default)]
struct Facts {
    rules: Option<usize>,
    warnings: Vec<String>,
}

/// The kind of a file, and facts about it if it is valid.
async fn check(path: &Path, config: Option<&Config>) -> (&'static str, Result<Facts>) {
    if path
        .extension()
        .is_some_and(|extension| extension == "cedar")
    {
        return ("guardrails", guardrails(path));
    }
    if path.extension().is_none_or(|extension| extension != "toml") {
        let found = plugin::examine(path, config).await;
        return (
            "component",
            found.and_then(|found| {
                found
                    .problem
                    .map_or(Ok(Facts::default()), |problem| bail!(problem))
            }),
        );
    }
    let text = read_text(path);
    if is_manifest(path, text.as_deref().unwrap_or_default(), config) {
        let checked = match config {
            Some(config) => manifests::check(path, config).map(drop),
            None => Manifest::load(path)
                .map_err(Error::from)
                .and_then(|manifest| places::check(&manifest, None)),
        };
        return ("manifest", checked.map(|()| Facts::default()));
    }
    // An unreadable file may be either.
    match text {
        Err(error) => ("file", Err(Error::from(error).context("cannot read it"))),
        Ok(text) if sets_nothing(&text) => (
            "file",
            Err(anyhow!(
                "it sets nothing: a host refuses it as a manifest, and learns nothing from it as a configuration"
            )),
        ),
        Ok(_) => {
            let checked = Config::load(path).and_then(|config| config.guardrails());
            (
                "configuration",
                checked.map(|guardrails| Facts {
                    rules: None,
                    warnings: guardrails.warnings(),
                }),
            )
        }
    }
}

/// Whether a text is empty or has only comments.
fn sets_nothing(text: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .all(|line| line.is_empty() || line.starts_with('#'))
}

/// Whether a file is a manifest rather than a configuration, by its place or by its keys, even if it is invalid.
fn is_manifest(path: &Path, text: &str, config: Option<&Config>) -> bool {
    let folder = |path: &Path| path.canonicalize().ok();
    let among = config.and_then(|config| folder(&config.plugins()));
    let above = std::path::absolute(path).ok();
    let above = above.as_deref().and_then(Path::parent).and_then(folder);
    let has_place = path.file_name().is_some_and(|name| name == "manifest.toml")
        || (among.is_some() && among == above);
    // No configuration has these.
    let has_keys = text.lines().any(|line| {
        let key = line.trim_start().trim_start_matches('[');
        let key = key.split(['=', ']', ' ', '\t']).next();
        matches!(
            key,
            Some("plugin" | "component" | "grant" | "http" | "folder")
        )
    });
    has_place || has_keys
}

/// Checks one file of guardrails separately.
fn guardrails(path: &Path) -> Result<Facts> {
    let text = read_text(path).context("cannot read it")?;
    let guardrails = Guardrails::read(&[(path.to_owned(), text)])?;
    let rules = guardrails.ids().count();
    ensure!(
        rules > 0,
        "there is no rule in it, so it forbids nothing; remove the file, or take its rules out of the comments"
    );
    Ok(Facts {
        rules: Some(rules),
        warnings: guardrails.warnings(),
    })
}

#[cfg(test)]
mod tests {
    use qchost_testing::cost::assert_linear;

    use super::*;

    #[test]
    fn the_time_that_a_configuration_takes_grows_with_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qchost.toml");
        std::fs::write(&path, "").unwrap();
        let accounts = |n: usize| -> String {
            let account = |at| format!("[account.a{at}]\nrest = \"https://example.com\"\n");
            (0..n / 48).map(account).collect()
        };
        let people = |n: usize| -> String {
            let person = |at| format!("[people.p{at}]\nuid = {at}\nroles = [\"viewer\"]\n");
            (0..n / 48).map(person).collect()
        };
        let shapes: [(&str, &dyn Fn(usize) -> String); 6] = [
            ("comments", &|n| "#\n".repeat(n / 2)),
            ("people", &people),
            ("accounts", &accounts),
            ("unknown keys", &|n| {
                (0..n / 12).map(|at| format!("k{at} = 1\n")).collect()
            }),
            ("a long key", &|n| format!("{} = 1", "x".repeat(n))),
            ("a list of lists", &|n| {
                format!("plugins = [{}]", "[[]],".repeat(n / 5))
            }),
        ];
        for (what, made) in shapes {
            assert_linear(what, 1 << 14, made, |text| drop(Config::parse(text, &path)));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_broken_is_called_what_it_is_meant_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.toml");
        let manifest = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
        for (text, expected) in [
            (format!("{manifest}plugin = \"lab\"\n"), "manifest"),
            (format!("{manifest}[[grant]\n"), "manifest"),
            ("[[http]]\nallow = \n".to_owned(), "manifest"),
            ("plugins = \"p\"\n[account.a\n".to_owned(), "configuration"),
            (String::new(), "file"),
            ("# nothing yet\n\n".to_owned(), "file"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let (kind, checked) = check(&path, None).await;
            assert_eq!(kind, expected, "{text}");
            assert!(checked.is_err(), "{text}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let config = Config {
            plugins: Some(folder.path().to_owned()),
            ..Config::default()
        };
        assert_eq!(check(&path, Some(&config)).await.0, "manifest");
        let [inner, none] = ["folder.toml", "none.toml"].map(|name| folder.path().join(name));
        std::fs::create_dir(&inner).unwrap();
        for other in [&path, &inner, &none] {
            let (kind, checked) = check(other, None).await;
            assert_eq!(kind, "file");
            let error = words(&checked.map(drop).unwrap_err());
            assert!(error.starts_with("cannot read it: "), "{error}");
        }
    }
}
