//! The strategies that come with the plugin.
//!
//! Invariant: each has a name of its own, and documents the parameters that it reads.

use qchost_sdk::prelude::*;
use qchost_sdk::types::Language;

/// A strategy that comes with the plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strategy {
    /// The name by which `create-project` takes it.
    pub(crate) name: &'static str,
    /// The text of its main file.
    pub(crate) source: &'static str,
    /// The language that it is written in.
    pub(crate) language: Language,
}

/// All of them. The first one is that of a project which names none.
const BUNDLED: &[Strategy] = &[Strategy {
    name: "moving-average-crossover",
    source: include_str!("strategy.py"),
    language: Language::Python,
}];

/// The strategy of a project that names none.
pub(crate) const DEFAULT: &str = "moving-average-crossover";

/// The strategy of this name.
///
/// # Errors
/// If there is none; the message lists those that there are.
pub(crate) fn named(name: &str) -> Result<&'static Strategy, Failure> {
    let found = BUNDLED.iter().find(|it| it.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = BUNDLED.iter().map(|it| it.name).collect();
        Failure::invalid_input(format!(
            "there is no bundled strategy \"{name}\"; there are: {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_found_by_its_name_and_others_are_listed() {
        assert_eq!(named(DEFAULT).unwrap().name, DEFAULT);
        let failure = named("momentum").unwrap_err().to_string();
        assert!(
            failure.contains("there are: moving-average-crossover"),
            "{failure}"
        );
    }

    #[test]
    fn names_differ_and_every_source_is_an_algorithm() {
        for strategy in BUNDLED {
            let same = BUNDLED.iter().filter(|it| it.name == strategy.name);
            assert_eq!(same.count(), 1, "{}", strategy.name);
            assert!(strategy.source.contains("QCAlgorithm"), "{}", strategy.name);
        }
    }

    #[test]
    fn the_first_strategy_reads_the_parameters_that_it_documents() {
        let source = named(DEFAULT).unwrap().source;
        for line in [
            "from AlgorithmImports import *",
            "self.get_parameter(\"fast\", 20)",
            "self.get_parameter(\"slow\", 100)",
            "self.get_parameter(\"start\", \"2018-01-01\")",
            "self.get_parameter(\"end\", \"2022-12-31\")",
        ] {
            assert!(source.contains(line), "{line}");
        }
    }
}
