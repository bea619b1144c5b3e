//! One `[[alias]]`: another name by which an action of the plugin is invoked.
//!
//! An alias grants nothing: it names what can be invoked without it.
//!
//! Invariant: different aliases stay different when underscores are written for their dots, as lists of tools have them,
//! since a name has no underscore.

use serde::{Deserialize, Serialize};

use super::reader::{Fields, Item, Problem, is_name};

/// Maximum aliases of a manifest.
pub(crate) const MAX_ALIASES: usize = 64;
/// Maximum bytes of an alias: more has no name of a tool.
pub(crate) const MAX_ALIAS: usize = 64;

/// Another name of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The name, unique on the host: `quantconnect.backtest.run`.
    pub name: String,
    /// The action of the plugin.
    pub action: String,
}

impl Alias {
    pub(crate) fn read(fields: Fields<'_>) -> Result<Self, Problem> {
        fields.only(&["name", "action"], &[])?;
        let item = fields.need("name", "\"a.name\"")?;
        let name = alias(&item)?.to_owned();
        let fields = fields.called(format!("alias `{name}`"));
        let action = fields.need("action", "\"an-action\"")?.name()?.to_owned();
        Ok(Self { name, action })
    }
}

fn alias<'a>(item: &Item<'a>) -> Result<&'a str, Problem> {
    let text = item.text()?;
    if is_alias(text) {
        return Ok(text);
    }
    Err(item.wrong(&format!(
        "`{text}` is not an alias: names of a-z, 0-9 and `-` with a `.` between each two, at most {MAX_ALIAS} characters in all"
    )))
}

/// Whether a text is a valid alias.
fn is_alias(text: &str) -> bool {
    text.len() <= MAX_ALIAS && text.split('.').all(is_name)
}
