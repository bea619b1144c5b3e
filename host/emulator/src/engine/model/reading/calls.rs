//! Calls and their arguments, and those of the project's own functions, methods and classes.
//!
//! Invariant: a call that returns leaves the frames as it found them.

use std::collections::BTreeMap;
use std::rc::Rc;

use ruff_python_ast::{self as ast, Expr, ExprCall, StmtFunctionDef};
use ruff_text_size::{Ranged, TextRange};

use super::reader::{Evaluated, Frame, MAX_FRAMES, Mode, Object, Raise, Reader};
use super::statements::Flow;
use super::value::{BoundMethod, Value};
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

    /// Evaluates a call.
    pub(super) fn call(&mut self, call: &'a ExprCall) -> Evaluated<'a> {
        let function = self.evaluate(&call.func)?;
        let arguments = self.arguments(&call.arguments)?;
        match function {
            Value::Function(file, def) => self.call_function(file, def, arguments, None),
            Value::Method(object, method) => self.call_method(object, method, arguments),
            Value::Class(class) => self.instantiate(class, arguments),
            Value::Builtin(of, name) => self.call_builtin_method(&of, &name, &arguments),
            Value::Api(path) => self.call_api(&Call {
                path,
                node: call,
                arguments,
            }),
            Value::Path(path) if &*path == "super" => {
                Ok(self.frames.last().and_then(|frame| frame.method).map_or(
                    Value::Unknown,
                    |(class, object)| Value::Super { object, class },
                ))
            }
            Value::Path(path) => self.call_path(&Call {
                path,
                node: call,
                arguments,
            }),
            value @ (Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Text(_)) => {
                let message = format!("'{}' object is not callable", value.type_name());
                self.refuse("TypeError", message)
            }
            _ => Ok(Value::Unknown),
        }
    }

    fn instantiate(&mut self, class: usize, arguments: CallArguments<'a>) -> Evaluated<'a> {
        self.step(1)?;
        let object = self.objects.len();
        self.objects.push(Object {
            class,
            attributes: BTreeMap::new(),
        });
        if let Some(method) = self.find_method(class, "__init__") {
            self.call_method(object, method, arguments)?;
        }
        Ok(Value::Object(object))
    }

    /// Calls a method of an object.
    pub(super) fn call_method(
        &mut self,
        object: usize,
        method: BoundMethod<'a>,
        arguments: CallArguments<'a>,
    ) -> Evaluated<'a> {
        let this = Some((method.class, object));
        self.call_function(method.file, method.def, arguments, this)
    }

    fn call_function(
        &mut self,
        file: usize,
        def: &'a StmtFunctionDef,
        arguments: CallArguments<'a>,
        method: Option<(usize, usize)>,
    ) -> Evaluated<'a> {
        if self.frames.len() >= MAX_FRAMES {
            let message = format!("the model follows at most {MAX_FRAMES} nested calls");
            return self.refuse("RecursionError", message);
        }
        let this = method.map(|(_, object)| Value::Object(object));
        let locals = self.parameters_of(def, arguments, this)?;
        self.frames.push(Frame {
            locals,
            method,
            ..Frame::new(file, def.name.as_str())
        });
        let flow = self.execute(&def.body)?;
        self.frames.pop();
        Ok(match (self.mode, flow) {
            (Mode::Run, Flow::Return(value)) => value,
            (Mode::Run, _) => Value::None,
            (Mode::Survey, _) => Value::Unknown,
        })
    }

    /// Binds the arguments of a call to the function's parameters.
    fn parameters_of(
        &mut self,
        def: &'a StmtFunctionDef,
        arguments: CallArguments<'a>,
        this: Option<Value<'a>>,
    ) -> Result<BTreeMap<Rc<str>, Value<'a>>, Raise> {
        let incomplete = arguments.incomplete;
        let mut keywords = arguments.keywords;
        let mut positional = this.into_iter().chain(arguments.positional).peekable();
        let mut locals = BTreeMap::new();
        let positions = def.parameters.posonlyargs.len() + def.parameters.args.len();
        for (index, parameter) in def.parameters.iter_non_variadic_params().enumerate() {
            let name = parameter.parameter.name.as_str();
            let given = positional.next_if(|_| index < positions);
            let keyword = keywords.iter().position(|(keyword, _)| keyword == name);
            let keyword = keyword.map(|index| keywords.swap_remove(index).1);
            let value = match (given.or(keyword), &parameter.default) {
                (Some(value), _) => value,
                (None, _) if incomplete || self.mode == Mode::Survey => Value::Unknown,
                (None, Some(default)) => self.evaluate(default)?,
                (None, None) => {
                    let message = format!("{}() missing argument: '{name}'", def.name);
                    self.refuse("TypeError", message)?
                }
            };
            locals.insert(Rc::from(name), value);
        }
        let rest: Vec<_> = positional.collect();
        match &def.parameters.vararg {
            Some(parameter) => {
                let rest = if incomplete {
                    Value::Unknown
                } else {
                    self.new_list(rest)?
                };
                locals.insert(Rc::from(parameter.name.as_str()), rest);
            }
            None if rest.is_empty() => {}
            None => {
                let message = format!("{}() takes fewer positional arguments", def.name);
                self.refuse("TypeError", message)?;
            }
        }
        if let Some(parameter) = &def.parameters.kwarg {
            let items = keywords.into_iter();
            let items = items.map(|(name, value)| (Value::text(&name), value));
            let dict = self.new_dict(items.collect())?;
            locals.insert(Rc::from(parameter.name.as_str()), dict);
        } else if let Some((name, _)) = keywords.first() {
            let message = format!("{}() got an unexpected argument '{name}'", def.name);
            self.refuse("TypeError", message)?;
        }
        Ok(locals)
    }
}
