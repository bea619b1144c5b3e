//! The strategies that come with the plugin, in the folder `strategies`.
//!
//! Invariant: each has a name of its own, and its README documents the parameters that it reads. Tests of the strategies are no
//! part of them: they run without LEAN, and a project has no use for them.

use qchost_sdk::prelude::*;
use qchost_sdk::types::Language;

/// A strategy that comes with the plugin.
#[derive(Debug, PartialEq)]
pub(crate) struct Strategy {
    /// The name by which `create-project` takes it.
    pub(crate) name: &'static str,
    /// What it does, in one sentence.
    pub(crate) summary: &'static str,
    /// The language that it is written in.
    pub(crate) language: Language,
    /// Its files: the main file and what that imports.
    pub(crate) files: &'static [SourceFile],
}

/// A file of a strategy.
#[derive(Debug, PartialEq)]
pub(crate) struct SourceFile {
    /// Its path in the project.
    pub(crate) name: &'static str,
    /// Its whole text.
    pub(crate) content: &'static str,
}

/// The files of a strategy in Python by their names.
macro_rules! python {
    ($strategy:literal: $($file:literal),+) => {
        &[$(SourceFile {
            name: $file,
            content: include_str!(concat!("../strategies/", $strategy, "/", $file)),
        }),+]
    };
}

/// All of them.
const BUNDLED: &[Strategy] = &[
    Strategy {
        name: DEFAULT,
        summary: "Holds one equity while its fast moving average is above the slow one.",
        language: Language::Python,
        files: python!("moving-average-crossover": "main.py"),
    },
    Strategy {
        name: "momentum-rotation",
        summary: "Holds those of five asset classes that have risen most, rebalanced monthly.",
        language: Language::Python,
        files: python!("momentum-rotation": "main.py", "rotation.py"),
    },
    Strategy {
        name: "mean-reversion",
        summary: "Buys falls of a few days in a rising market, and sells at the mean.",
        language: Language::Python,
        files: python!("mean-reversion": "main.py", "reversion.py"),
    },
    Strategy {
        name: "pairs-trading",
        summary: "Trades the spread of two shares that move together.",
        language: Language::Python,
        files: python!("pairs-trading": "main.py", "spread.py"),
    },
    Strategy {
        name: "channel-breakout",
        summary: "Buys new highs and sells new lows, while the longer trend is up.",
        language: Language::Python,
        files: python!("channel-breakout": "main.py", "channel.py"),
    },
    Strategy {
        name: "risk-parity",
        summary: "Holds four asset classes so that each contributes alike to the risk, rebalanced monthly.",
        language: Language::Python,
        files: python!("risk-parity": "main.py", "parity.py"),
    },
];

/// The strategy of a project that names none.
pub(crate) const DEFAULT: &str = "moving-average-crossover";

/// The strategy of this name.
///
/// # Errors
/// If there is none; the message lists those that there are.
pub(crate) fn named(name: &str) -> Result<&'static Strategy, Failure> {
    let found = BUNDLED.iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        let known = BUNDLED.iter();
        let known: Vec<String> = known
            .map(|it| format!("{}: {}", it.name, it.summary))
            .collect();
        Failure::invalid_input(format!(
            "there is no bundled strategy \"{name}\"; there are:\n{}",
            known.join("\n")
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn folder(strategy: &str) -> PathBuf {
        let plugin = Path::new(env!("CARGO_MANIFEST_DIR"));
        plugin.join("strategies").join(strategy)
    }

    /// The texts between backquotes at the beginnings of the rows of a README's table.
    fn documented(readme: &str) -> BTreeSet<String> {
        let rows = readme.lines().filter_map(|it| it.strip_prefix("| `"));
        rows.filter_map(|it| Some(it.split_once('`')?.0.to_owned()))
            .collect()
    }

    /// The names and defaults of the parameters that a source reads.
    fn read(source: &str) -> Vec<(String, String)> {
        let calls = source.split("self.get_parameter(").skip(1);
        let pair = |call: &str| {
            let (arguments, _) = call.split_once(')').unwrap();
            let (name, default) = arguments.split_once(", ").unwrap();
            let bare = |text: &str| text.trim_matches('"').to_owned();
            (bare(name), bare(default))
        };
        calls.map(pair).collect()
    }

    #[test]
    fn a_strategy_is_found_by_its_name_and_others_are_listed() {
        assert_eq!(named(DEFAULT).unwrap().name, DEFAULT);
        assert_eq!(named("pairs-trading").unwrap().files.len(), 2);
        let failure = named("momentum").unwrap_err().to_string();
        for strategy in BUNDLED {
            assert!(failure.contains(strategy.name), "{failure}");
            assert!(failure.contains(strategy.summary), "{failure}");
        }
    }

    #[test]
    fn every_folder_is_a_strategy_whose_first_file_is_the_algorithm() {
        let folders = std::fs::read_dir(folder("")).unwrap();
        let folders: BTreeSet<String> = folders
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        let names: BTreeSet<String> = BUNDLED.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(folders, names);
        assert_eq!(names.len(), BUNDLED.len());
        for strategy in BUNDLED {
            let main = &strategy.files[0];
            assert_eq!(main.name, "main.py");
            assert!(main.content.contains("(QCAlgorithm):"), "{}", strategy.name);
            let modules = strategy.files.iter().skip(1);
            for module in modules {
                let import = format!("from {} import ", module.name.trim_end_matches(".py"));
                assert!(main.content.contains(&import), "{}", strategy.name);
                assert!(!module.content.contains("AlgorithmImports"));
            }
        }
    }

    #[test]
    fn every_parameter_is_documented_with_its_default() {
        for strategy in BUNDLED {
            let readme = std::fs::read_to_string(folder(strategy.name).join("README.md")).unwrap();
            let parameters = read(strategy.files[0].content);
            let names: BTreeSet<String> = parameters.iter().map(|it| it.0.clone()).collect();
            assert_eq!(names, documented(&readme), "{}", strategy.name);
            for (name, default) in &parameters {
                let row = format!("| `{name}` | {default} |");
                assert!(readme.contains(&row), "{}: {row}", strategy.name);
            }
            for name in ["start", "end"] {
                assert!(names.contains(name), "{}: {name}", strategy.name);
            }
            for part in [
                "qchost invoke strategy-lab.",
                "Known weaknesses:",
                "On the emulator:",
            ] {
                assert!(readme.contains(part), "{}: {part}", strategy.name);
            }
        }
    }

    #[test]
    fn the_tests_of_every_strategy_pass() {
        let python = folder("").join("../../../.venv/numerics/bin/python");
        assert!(
            python.exists(),
            "{} is missing; run: make setup-test",
            python.display()
        );
        for strategy in BUNDLED {
            let ran = Command::new(&python)
                .args(["-m", "unittest", "discover", "--pattern", "test_*.py"])
                .current_dir(folder(strategy.name))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{}: {said}", strategy.name);
            assert!(!said.contains("Ran 0 tests"), "{}: {said}", strategy.name);
            let compiles = "import ast, pathlib; ast.parse(pathlib.Path('main.py').read_text())";
            let parsed = Command::new(&python)
                .args(["-c", compiles])
                .current_dir(folder(strategy.name))
                .status();
            assert!(parsed.unwrap().success(), "{}", strategy.name);
        }
    }
}
