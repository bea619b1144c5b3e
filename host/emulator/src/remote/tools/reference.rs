//! What is looked up: datasets, libraries and skills. The entries are invented.
//!
//! A skill of the organisation is an object under `.assistant/skills/NAME/skill.md`, as QuantConnect documents.

use serde_json::{Value, json};

use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply};
use crate::services::arguments::Arguments;
use crate::store::State;

/// Where the organisation's own skills are.
const FOLDER: &str = ".assistant/skills";
/// The name of a skill's text in its folder.
const SKILL: &str = "skill.md";

/// Datasets: name, first day, reach, and how an algorithm subscribes.
const DATASETS: [(&str, &str, &str, &str); 2] = [
    (
        "Emulated US Equities",
        "1998-01-01",
        "synthetic prices of any ticker, daily",
        "self.add_equity(\"SPY\", Resolution.DAILY)",
    ),
    (
        "Emulated Crypto",
        "2015-01-01",
        "synthetic prices of any pair, daily",
        "self.add_crypto(\"BTCUSD\", Resolution.DAILY)",
    ),
];

/// Libraries with their versions.
const LIBRARIES: [(&str, &str); 2] = [("numpy", "1.26.4"), ("pandas", "2.2.3")];

/// Built-in skills with their texts.
const SKILLS: [(&str, &str); 2] = [
    (
        "backtest-review",
        "# Backtest review\n\nCompare the number of trades with the number of parameters.\n",
    ),
    (
        "parameter-study",
        "# Parameter study\n\nPrefer a plateau of good results to a single peak.\n",
    ),
];

pub(super) fn datasets(_: &Workspace, _: &mut State, _: &Arguments) -> Answer {
    let names = DATASETS.map(|(name, ..)| name);
    Reply::success(json!({"datasets": names}))
}

pub(super) fn dataset(_: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    let wanted = arguments.text("name")?;
    let mut datasets = DATASETS.iter();
    let found = datasets.find(|(name, ..)| *name == wanted);
    let (name, start, coverage, example) =
        found.ok_or_else(|| Refusal::not_found("Dataset", wanted))?;
    Reply::success(json!({
        "name": name,
        "start": start,
        "coverage": coverage,
        "url": "",
        "example": example,
    }))
}

pub(super) fn libraries(_: &Workspace, _: &mut State, _: &Arguments) -> Answer {
    let library = |(name, version): (&str, &str)| json!({"name": name, "version": version});
    Reply::success(json!({"environment": "Default", "libraries": LIBRARIES.map(library)}))
}

/// The names of the built-in skills, and of those in the object store.
pub(super) fn skills(_: &Workspace, state: &mut State, _: &Arguments) -> Answer {
    let builtin = SKILLS.iter().map(|(name, _)| (*name).to_owned());
    let own = state.objects.below(FOLDER).filter_map(|(key, _)| {
        let rest = key.strip_prefix(FOLDER)?.strip_prefix('/')?;
        let (name, file) = rest.split_once('/')?;
        (file == SKILL).then(|| name.to_owned())
    });
    let names: Vec<String> = builtin.chain(own).collect();
    Reply::success(json!({"skills": names}))
}

pub(super) fn skill(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let wanted = arguments.filled_text("name")?;
    let builtin = SKILLS.iter().find(|(name, _)| *name == wanted);
    let own = state
        .objects
        .objects
        .get(&format!("{FOLDER}/{wanted}/{SKILL}"));
    let own = own.and_then(|object| std::str::from_utf8(&object.bytes).ok());
    let text = own.or(builtin.map(|(_, text)| *text));
    let text = text.ok_or_else(|| Refusal::not_found("Skill", wanted))?;
    Reply::success(json!({"name": wanted, "content": Value::from(text)}))
}
