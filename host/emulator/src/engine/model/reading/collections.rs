//! Lists, tuples, sets and dictionaries, written out or by comprehension.
//!
//! Invariant: every element costs a step, so all collections together are bounded by the budget.

use ruff_python_ast::{self as ast, Expr};

use super::reader::{Evaluated, MAX_ELEMENTS, Mode, Raise, Reader};
use super::value::Value;

impl<'a> Reader<'a> {
    /// Refuses a list, dictionary or text beyond the bound.
    pub(super) fn check_length(&self, length: usize) -> Result<(), Raise> {
        if length <= MAX_ELEMENTS {
            return Ok(());
        }
        Err(self.fatal(format!(
            "the model reads lists and texts of at most {MAX_ELEMENTS} elements"
        )))
    }

    /// A new list; its elements count as steps.
    pub(super) fn new_list(&mut self, elements: Vec<Value<'a>>) -> Evaluated<'a> {
        self.check_length(elements.len())?;
        self.step(elements.len())?;
        self.lists.push(elements);
        Ok(Value::List(self.lists.len() - 1))
    }

    /// `[…]`, `(…)`, `{…}`
    pub(super) fn list(&mut self, elements: &'a [Expr]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for element in elements {
            if let Expr::Starred(starred) = element {
                let value = self.evaluate(&starred.value)?;
                match self.elements(&value)? {
                    Some(more) => values.extend(more),
                    None => return Ok(Value::Unknown),
                }
            } else {
                values.push(self.evaluate(element)?);
            }
        }
        self.new_list(values)
    }

    /// `{key: value, …}`
    pub(super) fn dict(&mut self, dict: &'a ast::ExprDict) -> Evaluated<'a> {
        let mut items = Vec::new();
        for item in &dict.items {
            let value = self.evaluate(&item.value)?;
            match &item.key {
                Some(key) => {
                    let key = self.evaluate(key)?;
                    items.push((key, value));
                }
                None => match value {
                    Value::Dict(other) => {
                        items.extend(self.dicts.get(other).cloned().unwrap_or_default());
                    }
                    _ => return Ok(Value::Unknown),
                },
            }
        }
        self.new_dict(items)
    }

    /// A list (`key` is `None`) or a dictionary built by a comprehension.
    pub(super) fn comprehension(
        &mut self,
        generators: &'a [ast::Comprehension],
        key: Option<&'a Expr>,
        value: &'a Expr,
    ) -> Evaluated<'a> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let complete = self.generate(generators, &mut |reader| {
            if let Some(key) = key {
                keys.push(reader.evaluate(key)?);
            }
            values.push(reader.evaluate(value)?);
            Ok(())
        })?;
        if !complete {
            return Ok(Value::Unknown);
        }
        if key.is_some() {
            self.new_dict(keys.into_iter().zip(values).collect())
        } else {
            self.new_list(values)
        }
    }

    /// Calls `each` for every combination that the generators give. Whether all were known.
    fn generate(
        &mut self,
        generators: &'a [ast::Comprehension],
        each: &mut dyn FnMut(&mut Self) -> Result<(), Raise>,
    ) -> Result<bool, Raise> {
        let Some((generator, rest)) = generators.split_first() else {
            each(self)?;
            return Ok(true);
        };
        let iterable = self.evaluate(&generator.iter)?;
        let elements = self.elements(&iterable)?;
        let mut complete = elements.is_some();
        if !complete && self.mode == Mode::Run {
            return Ok(false);
        }
        for element in elements.unwrap_or_else(|| vec![Value::Unknown]) {
            self.step(1)?;
            self.assign(&generator.target, element)?;
            let mut included = Some(true);
            for condition in &generator.ifs {
                let condition = self.evaluate(condition)?;
                if included == Some(true) {
                    included = self.truth(&condition);
                }
            }
            complete &= included.is_some();
            if included == Some(true) || (included.is_none() && self.mode == Mode::Survey) {
                complete &= self.generate(rest, each)?;
            }
        }
        Ok(complete)
    }
}
