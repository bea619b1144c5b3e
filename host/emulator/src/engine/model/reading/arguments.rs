//! The evaluated arguments of a call.

use std::rc::Rc;

use ruff_python_ast::{self as ast, Expr, ExprCall};
use ruff_text_size::{Ranged, TextRange};

use super::reader::{Raise, Reader};
use super::value::Value;
use crate::text::snake;

/// Positional and keyword arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct CallArguments<'a> {
    pub(super) positional: Vec<Value<'a>>,
    pub(super) keywords: Vec<(String, Value<'a>)>,
    /// Whether there are more that the reader does not know (`*unknown`).
    pub(super) incomplete: bool,
}

/// A call of something that the project does not define: of the algorithm's interface, of LEAN or of Python.
pub(super) struct Call<'a> {
    /// What is called, such as `add_equity` or `math.floor`.
    pub(super) path: Rc<str>,
    pub(super) node: &'a ExprCall,
    pub(super) arguments: CallArguments<'a>,
}

impl Ranged for Call<'_> {
    fn range(&self) -> TextRange {
        self.node.range()
    }
}

impl<'a> CallArguments<'a> {
    /// The argument at a position or under a name, in today's spelling or the former one.
    pub(super) fn get(&self, position: usize, name: &str) -> Option<&Value<'a>> {
        self.positional.get(position).or_else(|| {
            self.keywords
                .iter()
                .find(|(keyword, _)| keyword == name || snake(keyword) == name)
                .map(|(_, value)| value)
        })
    }

    /// Like [`Self::get`]; what is not there is unknown only if the call has more arguments than
    /// the reader knows.
    pub(super) fn value(&self, position: usize, name: &str) -> Value<'a> {
        match self.get(position, name) {
            Some(value) => value.clone(),
            None if self.incomplete => Value::Unknown,
            None => Value::None,
        }
    }

    /// All values, in source order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Value<'a>> {
        let named = self.keywords.iter().map(|(_, value)| value);
        self.positional.iter().chain(named)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.positional.len() + self.keywords.len()
    }
}

impl<'a> Reader<'a> {
    /// Evaluates the arguments of a call in source order.
    pub(super) fn arguments(
        &mut self,
        arguments: &'a ast::Arguments,
    ) -> Result<CallArguments<'a>, Raise> {
        let mut result = CallArguments::default();
        for argument in &arguments.args {
            if let Expr::Starred(starred) = argument {
                let value = self.evaluate(&starred.value)?;
                match self.elements(&value)? {
                    Some(elements) => result.positional.extend(elements),
                    None => result.incomplete = true,
                }
            } else {
                result.positional.push(self.evaluate(argument)?);
            }
        }
        for keyword in &arguments.keywords {
            let value = self.evaluate(&keyword.value)?;
            match (&keyword.arg, value) {
                (Some(name), value) => result.keywords.push((name.to_string(), value)),
                (None, Value::Dict(dict)) => {
                    for (key, value) in self.dicts.get(dict).cloned().unwrap_or_default() {
                        if let Value::Text(name) = key {
                            result.keywords.push((name.to_string(), value));
                        }
                    }
                }
                (None, _) => result.incomplete = true,
            }
        }
        Ok(result)
    }
}
