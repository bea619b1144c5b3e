//! Lists, tuples, sets and dictionaries, written out or by comprehension, and the elements and methods
//! of them and of strings.
//!
//! Invariant: every element costs a step, so all collections together are bounded by the budget.

use std::rc::Rc;

use ruff_python_ast::{self as ast, CmpOp, Expr};

use super::calls::CallArguments;
use super::reader::{Evaluated, MAX_ELEMENTS, Mode, Raise, Reader};
use super::value::{self, Value};

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

    /// The elements of an iterable; `None` if they are not known.
    pub(super) fn elements(&mut self, of: &Value<'a>) -> Result<Option<Vec<Value<'a>>>, Raise> {
        let elements: Vec<Value<'a>> = match of {
            Value::List(list) => self.lists.get(*list).cloned().unwrap_or_default(),
            Value::Dict(dict) => {
                let items = self.dicts.get(*dict).cloned().unwrap_or_default();
                items.into_iter().map(|(key, _)| key).collect()
            }
            Value::Text(text) => text
                .chars()
                .map(|letter| Value::text(letter.encode_utf8(&mut [0; 4])))
                .collect(),
            Value::None | Value::Int(_) | Value::Float(_) | Value::Bool(_)
                if self.mode == Mode::Run =>
            {
                let message = format!("'{}' object is not iterable", of.type_name());
                return self.refuse("TypeError", message).map(|_| None);
            }
            _ => return Ok(None),
        };
        self.step(elements.len())?;
        Ok(Some(elements))
    }

    /// Whether `value` is in `of`; `None` where that is not known.
    pub(super) fn contains(&self, of: &Value<'a>, value: &Value<'a>) -> Option<bool> {
        let same = |element: &Value<'a>| value::compare(CmpOp::Eq, element, value);
        let known = match (of, value) {
            (Value::Text(text), Value::Text(part)) => return Some(text.contains(&**part)),
            (Value::List(list), _) => self.lists.get(*list)?.iter().map(same).collect(),
            (Value::Dict(dict), _) => {
                let items = self.dicts.get(*dict)?.iter();
                items.map(|(key, _)| same(key)).collect::<Vec<_>>()
            }
            _ => return None,
        };
        let found = known.contains(&Some(true));
        (found || !known.contains(&None)).then_some(found)
    }

    /// The value under a key.
    pub(super) fn dict_get(&self, dict: usize, key: &Value<'a>) -> Option<Value<'a>> {
        let items = self.dicts.get(dict)?;
        items
            .iter()
            .find(|(known, _)| value::compare(CmpOp::Eq, known, key) == Some(true))
            .map(|(_, value)| value.clone())
    }

    /// Sets the value under a key.
    pub(super) fn dict_set(
        &mut self,
        dict: usize,
        key: Value<'a>,
        value: Value<'a>,
    ) -> Result<(), Raise> {
        let Some(items) = self.dicts.get_mut(dict) else {
            return Ok(());
        };
        let length = items.len();
        match items
            .iter_mut()
            .find(|(known, _)| value::compare(CmpOp::Eq, known, &key) == Some(true))
        {
            Some((_, old)) => *old = value,
            None if length >= MAX_ELEMENTS => return self.check_length(length + 1),
            None => items.push((key, value)),
        }
        // The search for the key compared it with each entry.
        self.step(length / 16)
    }

    /// A new dictionary; a key that comes twice keeps its place and its last value.
    pub(super) fn new_dict(&mut self, items: Vec<(Value<'a>, Value<'a>)>) -> Evaluated<'a> {
        let dict = self.dicts.len();
        self.dicts.push(Vec::new());
        for (key, value) in items {
            self.step(1)?;
            self.dict_set(dict, key, value)?;
        }
        Ok(Value::Dict(dict))
    }

    /// Calls a method of a text, list or dictionary. What a survey would change stays unchanged.
    pub(super) fn call_builtin_method(
        &mut self,
        of: &Value<'a>,
        name: &str,
        arguments: &CallArguments<'a>,
    ) -> Evaluated<'a> {
        let first = arguments.positional.first();
        match (of, name, first) {
            (Value::Text(text), name, first) => self.text_method(text, name, first, arguments),
            (Value::List(list), "append" | "add", Some(element)) => {
                self.extend_list(*list, vec![element.clone()])
            }
            (Value::List(list), "extend" | "update", Some(more)) => {
                let more = self.elements(more)?.unwrap_or_default();
                self.extend_list(*list, more)
            }
            (Value::List(list), "copy", None) => {
                let elements = self.lists.get(*list).cloned().unwrap_or_default();
                self.new_list(elements)
            }
            (Value::Dict(dict), "items", _) => {
                let mut pairs = Vec::new();
                for (key, value) in self.dicts.get(*dict).cloned().unwrap_or_default() {
                    pairs.push(self.new_list(vec![key, value])?);
                }
                self.new_list(pairs)
            }
            (Value::Dict(dict), "values", _) => {
                let items = self.dicts.get(*dict).cloned().unwrap_or_default();
                self.new_list(items.into_iter().map(|(_, value)| value).collect())
            }
            (Value::Dict(_), "keys", _) => {
                let keys = self.elements(of)?.unwrap_or_default();
                self.new_list(keys)
            }
            (Value::Dict(dict), "get", Some(key)) => Ok(if key.is_unknown() {
                Value::Unknown
            } else {
                self.dict_get(*dict, key)
                    .unwrap_or_else(|| arguments.value(1, "default"))
            }),
            (Value::Moment(_), "date", _) => Ok(of.clone()),
            _ => Ok(Value::Unknown),
        }
    }

    /// Adds elements to the end of a list.
    fn extend_list(&mut self, list: usize, more: Vec<Value<'a>>) -> Evaluated<'a> {
        if self.mode == Mode::Run
            && let Some(elements) = self.lists.get_mut(list)
        {
            elements.extend(more);
            let length = elements.len();
            self.check_length(length)?;
        }
        Ok(Value::None)
    }

    fn text_method(
        &mut self,
        text: &Rc<str>,
        name: &str,
        first: Option<&Value<'a>>,
        arguments: &CallArguments<'a>,
    ) -> Evaluated<'a> {
        self.step(text.len() / 16)?;
        Ok(match (name, first) {
            ("upper", None) => Value::text(&text.to_uppercase()),
            ("lower", None) => Value::text(&text.to_lowercase()),
            ("strip", None) => Value::text(text.trim()),
            ("startswith", Some(Value::Text(start))) => Value::Bool(text.starts_with(&**start)),
            ("endswith", Some(Value::Text(end))) => Value::Bool(text.ends_with(&**end)),
            ("split", None) => {
                let parts = text.split_whitespace().map(Value::text).collect();
                return self.new_list(parts);
            }
            ("split", Some(Value::Text(by))) if !by.is_empty() && arguments.len() == 1 => {
                let parts = text.split(&**by).map(Value::text).collect();
                return self.new_list(parts);
            }
            ("replace", Some(Value::Text(old))) if !old.is_empty() => {
                match arguments.positional.get(1) {
                    Some(Value::Text(new)) => {
                        let growth = text.matches(&**old).count().saturating_mul(new.len());
                        self.check_length(growth)?;
                        Value::text(&text.replace(&**old, new))
                    }
                    _ => Value::Unknown,
                }
            }
            ("join", Some(parts)) => {
                let parts = self.elements(parts)?.unwrap_or_default();
                let mut joined = String::new();
                for (index, part) in parts.iter().enumerate() {
                    let Value::Text(part) = part else {
                        return Ok(Value::Unknown);
                    };
                    if index > 0 {
                        joined.push_str(text);
                    }
                    joined.push_str(part);
                    self.check_length(joined.len())?;
                }
                Value::text(&joined)
            }
            _ => Value::Unknown,
        })
    }
}
