//! Measures a schema before the library sees it.
//!
//! Invariant: an accepted schema is finite and of known size with its references followed, and so
//! are the programs of its patterns.

use std::collections::HashMap;

use jsonschema::{PatternOptions, ValidationOptions};
use serde_json::{Value, json};

use crate::text;

/// Maximum nesting, with references followed.
const MAX_DEPTH: usize = 64;
/// Maximum number of schemas, with references followed.
const MAX_WEIGHT: u64 = 20_000;
/// Factor for schemas below `unevaluatedProperties` or `unevaluatedItems`: the library evaluates
/// them again to find out what was evaluated, once more at each level (measured: 2.7 times).
const UNEVALUATED_FACTOR: u64 = 4;
/// Maximum bytes of a pattern's program; its matching cache has the same limit.
pub(super) const MAX_PATTERN: usize = 64 << 10;
/// Maximum number of patterns.
const MAX_PATTERNS: usize = 64;
/// Maximum bytes of the programs of all patterns together.
const MAX_PROGRAMS: u64 = 128 << 10;
/// Smallest program size in bytes that is distinguished.
const MIN_PROGRAM: usize = 256;
/// Maximum number of `\c` in a pattern: for each the library reads the whole pattern again.
const MAX_CONTROLS: usize = 16;

/// The supported dialects.
const DRAFTS: [&str; 3] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema#",
];

/// The cost of a schema for a value, with references followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    /// Number of schemas, at least one.
    pub(super) schemas: u64,
    /// Bytes of the patterns' programs that each text may be matched against.
    pub(super) programs: u64,
}

impl Weight {
    const ONE: Self = Self {
        schemas: 1,
        programs: 0,
    };

    fn add(&mut self, other: Self) {
        self.schemas = self.schemas.saturating_add(other.schemas);
        self.programs = self.programs.saturating_add(other.programs);
    }

    fn multiply(&mut self, by: u64) {
        self.schemas = self.schemas.saturating_mul(by);
        self.programs = self.programs.saturating_mul(by);
    }
}

/// Bytes of a pattern's program, to within a factor of two; `None` if it has no program of an
/// allowed size. Wrapped in a group, so that it is compiled even if the library could match it
/// literally.
fn program(pattern: &str) -> Option<usize> {
    let schema = json!({ "pattern": format!("(?:{pattern})") });
    let mut size = MIN_PROGRAM;
    while options(size).build(&schema).is_err() {
        size *= 2;
        if size > MAX_PATTERN {
            return None;
        }
    }
    Some(size)
}

/// Walks a schema before the library sees it.
pub(super) struct Survey<'a> {
    root: &'a Value,
    pub(super) weight: Weight,
    patterns: usize,
    /// Bytes of their programs.
    programs: u64,
    /// Whether a pattern has no program of an allowed size.
    pub(super) unmeasured: bool,
    /// The weight of each resolved reference.
    known: HashMap<&'a str, Weight>,
    /// The references that are being followed.
    open: Vec<&'a str>,
}

impl<'a> Survey<'a> {
    /// Surveys a schema; the error says which part of it is not allowed.
    pub(super) fn of(root: &'a Value) -> Result<Self, String> {
        let mut survey = Self {
            root,
            weight: Weight::ONE,
            patterns: 0,
            programs: 0,
            unmeasured: false,
            known: HashMap::new(),
            open: Vec::new(),
        };
        survey.weight = survey.weigh(root, 0)?;
        Ok(survey)
    }

    /// The weight of a part of the schema.
    fn weigh(&mut self, part: &'a Value, depth: usize) -> Result<Weight, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        let mut weight = Weight::ONE;
        match part {
            Value::Array(items) => {
                for item in items {
                    weight.add(self.weigh(item, depth + 1)?);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let added = match (name.as_str(), field) {
                        ("$ref", Value::String(target)) => self.follow(target, depth)?,
                        ("$dynamicRef" | "$recursiveRef", _) => {
                            return Err(format!("`{name}` is not allowed; use `$ref`"));
                        }
                        // It would change the meaning of the references below it.
                        ("$id", Value::String(_)) => {
                            return Err("`$id` is not allowed".to_owned());
                        }
                        ("$schema", Value::String(draft)) if !DRAFTS.contains(&draft.as_str()) => {
                            return Err(format!("`$schema` must be one of {}", DRAFTS.join(", ")));
                        }
                        ("pattern", Value::String(pattern)) => self.pattern(pattern)?,
                        ("patternProperties", Value::Object(patterns)) => {
                            let mut weight = self.weigh(field, depth + 1)?;
                            for pattern in patterns.keys() {
                                weight.add(self.pattern(pattern)?);
                            }
                            weight
                        }
                        _ => self.weigh(field, depth + 1)?,
                    };
                    weight.add(added);
                }
                for name in ["unevaluatedProperties", "unevaluatedItems"] {
                    if fields.contains_key(name) {
                        weight.multiply(UNEVALUATED_FACTOR);
                    }
                }
            }
            _ => {}
        }
        if weight.schemas > MAX_WEIGHT {
            return Err(format!(
                "it stands for more than {MAX_WEIGHT} schemas once its references are followed"
            ));
        }
        Ok(weight)
    }

    /// The weight of a pattern.
    fn pattern(&mut self, pattern: &str) -> Result<Weight, String> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(format!("it has more than {MAX_PATTERNS} patterns"));
        }
        if pattern.matches("\\c").count() > MAX_CONTROLS {
            let shown = text::line(pattern, 100);
            return Err(format!(
                "the pattern `{shown}` has `\\c` more than {MAX_CONTROLS} times"
            ));
        }
        // A pattern without a program is counted like the largest one, and refused by the library
        // unless that can match it without a program.
        let program = program(pattern);
        self.unmeasured |= program.is_none();
        let programs = u64::try_from(program.unwrap_or(MAX_PATTERN)).unwrap_or(u64::MAX);
        self.programs = self.programs.saturating_add(programs);
        if self.programs > MAX_PROGRAMS {
            return Err(format!(
                "the programs of its patterns have more than {MAX_PROGRAMS} bytes together"
            ));
        }
        Ok(Weight {
            schemas: 1,
            programs,
        })
    }

    /// The weight of a reference's target.
    fn follow(&mut self, target: &'a str, depth: usize) -> Result<Weight, String> {
        if let Some(weight) = self.known.get(target) {
            return Ok(*weight);
        }
        let shown = text::line(target, 100);
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(format!(
                "`$ref` to `{shown}`: references go only within the schema (`#/$defs/…`)"
            ));
        };
        if self.open.contains(&target) {
            return Err(format!(
                "`$ref` to `{shown}` goes in a circle; a schema must be finite"
            ));
        }
        let part = self
            .root
            .pointer(pointer)
            .ok_or_else(|| format!("`$ref` to `{shown}`: there is no such place in it"))?;
        self.open.push(target);
        let weight = self.weigh(part, depth + 1)?;
        self.open.pop();
        self.known.insert(target, weight);
        Ok(weight)
    }
}

/// Options of the library, with a limit on the program size of patterns.
pub(super) fn options(program: usize) -> ValidationOptions<'static> {
    jsonschema::options().with_pattern_options(
        PatternOptions::regex()
            .size_limit(program)
            .dfa_size_limit(MAX_PATTERN),
    )
}
