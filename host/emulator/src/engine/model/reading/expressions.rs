//! Evaluates expressions.
//!
//! Invariant: every expression is evaluated at most once per step of the budget, and to a depth
//! that [`MAX_DEPTH`] bounds.

use std::rc::Rc;

use ruff_python_ast::{
    self as ast, BoolOp, CmpOp, Expr, InterpolatedStringElement, Number, Operator, UnaryOp,
};

use super::calls::CallArguments;
use super::reader::{Body, Evaluated, Frame, MAX_DEPTH, Mode, Raise, Reader};
use super::value::{self, Value};
use crate::text::snake;

impl<'a> Reader<'a> {
    /// The value of an expression.
    pub(super) fn evaluate(&mut self, expression: &'a Expr) -> Evaluated<'a> {
        self.step(1)?;
        if self.depth >= MAX_DEPTH {
            return Err(self.fatal("the model does not read expressions this deep".to_owned()));
        }
        self.depth += 1;
        let value = self.evaluate_node(expression);
        self.depth -= 1;
        // A text costs what it holds, so that all of them together stay small.
        if let Ok(Value::Text(text)) = &value {
            self.step(text.len() / 64)?;
        }
        value
    }

    fn evaluate_node(&mut self, expression: &'a Expr) -> Evaluated<'a> {
        Ok(match expression {
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(int) => int.as_i64().map_or(Value::Unknown, Value::Int),
                Number::Float(float) => Value::Float(*float),
                Number::Complex { .. } => Value::Unknown,
            },
            Expr::StringLiteral(literal) => Value::text(literal.value.to_str()),
            Expr::BooleanLiteral(literal) => Value::Bool(literal.value),
            Expr::NoneLiteral(_) => Value::None,
            Expr::FString(literal) => self.f_string(literal)?,
            Expr::Name(name) => self.name(name.id.as_str()),
            Expr::Attribute(attribute) => {
                let value = self.evaluate(&attribute.value)?;
                self.attribute(&value, attribute.attr.as_str())?
            }
            Expr::Subscript(subscript) => self.subscript(subscript)?,
            Expr::Call(call) => self.call(call)?,
            Expr::BinOp(operation) => {
                let left = self.evaluate(&operation.left)?;
                let right = self.evaluate(&operation.right)?;
                self.operate(operation.op, &left, &right)?
            }
            Expr::UnaryOp(operation) => self.unary(operation)?,
            Expr::BoolOp(operation) => self.boolean(operation)?,
            Expr::Compare(comparison) => self.comparison(comparison)?,
            Expr::If(choice) => self.choice(choice)?,
            Expr::List(list) => self.list(&list.elts)?,
            Expr::Tuple(tuple) => self.list(&tuple.elts)?,
            Expr::Set(set) => self.list(&set.elts)?,
            Expr::Dict(dict) => self.dict(dict)?,
            Expr::ListComp(comp) => self.comprehension(&comp.generators, None, &comp.elt)?,
            Expr::SetComp(comp) => self.comprehension(&comp.generators, None, &comp.elt)?,
            Expr::Generator(comp) => self.comprehension(&comp.generators, None, &comp.elt)?,
            Expr::DictComp(comp) => {
                self.comprehension(&comp.generators, comp.key.as_deref(), &comp.value)?
            }
            Expr::Named(named) => {
                let value = self.evaluate(&named.value)?;
                self.assign(&named.target, value.clone())?;
                value
            }
            Expr::Lambda(lambda) => {
                self.defer(Body::Expression(&lambda.body))?;
                Value::Unknown
            }
            Expr::Await(wait) => self.evaluate(&wait.value)?,
            _ => Value::Unknown,
        })
    }

    /// Remembers a function that runs later, for the survey.
    pub(super) fn defer(&mut self, body: Body<'a>) -> Result<(), Raise> {
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let later = Frame {
            locals: frame.locals.clone(),
            method: frame.method,
            ..Frame::new(frame.file, "<lambda>")
        };
        self.step(later.locals.len())?;
        self.deferred.push((later, body));
        Ok(())
    }

    fn name(&self, name: &str) -> Value<'a> {
        let local = self.frames.last().and_then(|frame| frame.locals.get(name));
        local
            .cloned()
            .or_else(|| self.in_module(self.file(), name))
            .unwrap_or_else(|| Value::Path(Rc::from(name)))
    }

    /// A name of a file, if the file was imported and has it.
    fn in_module(&self, file: usize, name: &str) -> Option<Value<'a>> {
        self.modules.get(file)?.names.get(name).cloned()
    }

    /// `value.name`
    pub(super) fn attribute(&mut self, of: &Value<'a>, name: &str) -> Evaluated<'a> {
        Ok(match of {
            Value::Object(object) => return self.object_attribute(*object, name),
            Value::Class(class) => self.class_attribute(*class, name).unwrap_or_else(|| {
                self.find_method(*class, name)
                    .map_or(Value::Unknown, |method| {
                        Value::Function(method.file, method.def)
                    })
            }),
            Value::Super { object, class } => {
                let bases = self.classes.get(*class).map(|class| class.bases.clone());
                bases
                    .unwrap_or_default()
                    .into_iter()
                    .find_map(|base| self.find_method(base, name))
                    .map_or(Value::Unknown, |method| Value::Method(*object, method))
            }
            Value::Module(file) => self.in_module(*file, name).unwrap_or(Value::Unknown),
            Value::Api(path) => Value::Api(Rc::from(format!("{path}.{}", snake(name)))),
            Value::Path(path) => Value::Path(Rc::from(format!("{path}.{name}"))),
            Value::Security(security) if snake(name) == "symbol" => Value::Symbol(*security),
            Value::Symbol(_) if snake(name) == "value" => self.shown(of),
            Value::Moment(at) => match snake(name).as_str() {
                "year" => Value::Int(i64::from(at.year())),
                "month" => Value::Int(i64::from(at.month())),
                "day" => Value::Int(i64::from(at.day())),
                name => Value::Builtin(Box::new(of.clone()), Rc::from(name)),
            },
            Value::Text(_) | Value::List(_) | Value::Dict(_) => {
                Value::Builtin(Box::new(of.clone()), Rc::from(name))
            }
            Value::None => {
                let message = format!("'NoneType' object has no attribute '{name}'");
                return self.refuse("AttributeError", message);
            }
            _ => Value::Unknown,
        })
    }

    fn object_attribute(&mut self, object: usize, name: &str) -> Evaluated<'a> {
        let Some(found) = self.objects.get(object) else {
            return Ok(Value::Unknown);
        };
        if let Some(value) = found.attributes.get(name) {
            return Ok(value.clone());
        }
        let class = found.class;
        if let Some(value) = self.class_attribute(class, name) {
            return Ok(value);
        }
        let Some(method) = self.find_method(class, name) else {
            return Ok(if object == 0 {
                self.api_attribute(name)
            } else {
                Value::Unknown
            });
        };
        let decorator = method.def.decorator_list.first();
        match decorator.and_then(|decorator| decorator.expression.as_name_expr()) {
            None => Ok(Value::Method(object, method)),
            Some(name) if name.id.as_str() == "staticmethod" => {
                Ok(Value::Function(method.file, method.def))
            }
            Some(name) if name.id.as_str() == "property" => {
                self.call_method(object, method, CallArguments::default())
            }
            Some(_) => Ok(Value::Unknown),
        }
    }

    fn subscript(&mut self, subscript: &'a ast::ExprSubscript) -> Evaluated<'a> {
        let of = self.evaluate(&subscript.value)?;
        let index = match subscript.slice.as_ref() {
            Expr::Slice(_) => Value::Unknown,
            index => self.evaluate(index)?,
        };
        match &of {
            Value::List(list) => {
                let Some(index) = index.integer() else {
                    return Ok(Value::Unknown);
                };
                let elements = self.lists.get(*list).map_or(&[][..], Vec::as_slice);
                let position = if index < 0 {
                    usize::try_from(index.unsigned_abs())
                        .ok()
                        .and_then(|back| elements.len().checked_sub(back))
                } else {
                    usize::try_from(index).ok()
                };
                match position.and_then(|position| elements.get(position)) {
                    Some(element) => Ok(element.clone()),
                    None => self.refuse("IndexError", "list index out of range"),
                }
            }
            Value::Dict(dict) => {
                if index.is_unknown() {
                    return Ok(Value::Unknown);
                }
                match self.dict_get(*dict, &index) {
                    Some(value) => Ok(value),
                    None => self.refuse("KeyError", index.display().unwrap_or_default()),
                }
            }
            Value::Api(path) if &**path == "securities" => Ok(self
                .security_of(&index)
                .ok()
                .flatten()
                .map_or(Value::Unknown, Value::Security)),
            Value::Api(path) => Ok(Value::Api(Rc::from(format!("{path}[]")))),
            Value::None => self.refuse("TypeError", "'NoneType' object is not subscriptable"),
            _ => Ok(Value::Unknown),
        }
    }

    /// `left op right`, lists included.
    pub(super) fn operate(
        &mut self,
        op: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Evaluated<'a> {
        match (op, left, right) {
            (Operator::Add, Value::List(a), Value::List(b)) => {
                let mut elements = self.lists.get(*a).cloned().unwrap_or_default();
                elements.extend(self.lists.get(*b).cloned().unwrap_or_default());
                self.new_list(elements)
            }
            (Operator::Mult, Value::List(list), times)
            | (Operator::Mult, times, Value::List(list)) => {
                let Some(times) = times.integer() else {
                    return Ok(Value::Unknown);
                };
                let elements = self.lists.get(*list).cloned().unwrap_or_default();
                let times = usize::try_from(times).unwrap_or(0);
                self.check_length(elements.len().saturating_mul(times))?;
                let repeated = std::iter::repeat_n(elements, times).flatten().collect();
                self.new_list(repeated)
            }
            (Operator::Mult, Value::Text(text), times)
            | (Operator::Mult, times, Value::Text(text))
                if times.integer().is_some() =>
            {
                let times = usize::try_from(times.integer().unwrap_or(0)).unwrap_or(0);
                self.check_length(text.len().saturating_mul(times))?;
                Ok(Value::text(&text.repeat(times)))
            }
            (Operator::Add, Value::Text(a), Value::Text(b)) => {
                self.check_length(a.len().saturating_add(b.len()))?;
                self.refused(value::binary(op, left, right))
            }
            _ => self.refused(value::binary(op, left, right)),
        }
    }

    fn unary(&mut self, operation: &'a ast::ExprUnaryOp) -> Evaluated<'a> {
        let operand = self.evaluate(&operation.operand)?;
        Ok(match (operation.op, &operand) {
            (UnaryOp::Not, operand) => self
                .truth(operand)
                .map_or(Value::Unknown, |truth| Value::Bool(!truth)),
            (_, operand) if operand.is_unknown() => Value::Unknown,
            (UnaryOp::USub, Value::Float(value)) => Value::Float(-value),
            (UnaryOp::USub, Value::Span(value)) => Value::Span(-value),
            (UnaryOp::USub, operand) => match operand.integer() {
                Some(value) => value.checked_neg().map_or(Value::Unknown, Value::Int),
                None => {
                    let message =
                        format!("bad operand type for unary -: '{}'", operand.type_name());
                    return self.refuse("TypeError", message);
                }
            },
            (UnaryOp::UAdd, _) => operand,
            (UnaryOp::Invert, _) => Value::Unknown,
        })
    }

    fn boolean(&mut self, operation: &'a ast::ExprBoolOp) -> Evaluated<'a> {
        let mut last = Value::Unknown;
        let mut decided = true;
        for operand in &operation.values {
            last = self.evaluate(operand)?;
            match self.truth(&last) {
                Some(truth) if decided && truth == (operation.op == BoolOp::Or) => {
                    if self.mode == Mode::Run {
                        return Ok(last);
                    }
                    decided = false;
                }
                Some(_) => {}
                None if self.mode == Mode::Run => return Ok(Value::Unknown),
                None => decided = false,
            }
        }
        Ok(if decided { last } else { Value::Unknown })
    }

    fn comparison(&mut self, comparison: &'a ast::ExprCompare) -> Evaluated<'a> {
        let mut left = self.evaluate(&comparison.left)?;
        let mut holds = Some(true);
        for (op, right) in comparison.ops.iter().zip(&comparison.comparators) {
            let right = self.evaluate(right)?;
            let result = match op {
                CmpOp::In | CmpOp::NotIn => self
                    .contains(&right, &left)
                    .map(|contains| contains == (*op == CmpOp::In)),
                CmpOp::Lt | CmpOp::LtE | CmpOp::Gt | CmpOp::GtE
                    if matches!((&left, &right), (Value::None, _) | (_, Value::None))
                        && !left.is_unknown()
                        && !right.is_unknown() =>
                {
                    let (op, left, right) = (op.as_str(), left.type_name(), right.type_name());
                    let message =
                        format!("'{op}' not supported between instances of '{left}' and '{right}'");
                    return self.refuse("TypeError", message);
                }
                op => value::compare(*op, &left, &right),
            };
            holds = match (holds, result) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            left = right;
        }
        Ok(holds.map_or(Value::Unknown, Value::Bool))
    }

    fn choice(&mut self, choice: &'a ast::ExprIf) -> Evaluated<'a> {
        let test = self.evaluate(&choice.test)?;
        match (self.mode, self.truth(&test)) {
            (Mode::Run, Some(true)) => self.evaluate(&choice.body),
            (Mode::Run, Some(false)) => self.evaluate(&choice.orelse),
            (Mode::Run, None) => Ok(Value::Unknown),
            (Mode::Survey, _) => {
                self.evaluate(&choice.body)?;
                self.evaluate(&choice.orelse)?;
                Ok(Value::Unknown)
            }
        }
    }

    fn f_string(&mut self, literal: &'a ast::ExprFString) -> Evaluated<'a> {
        let mut text = String::new();
        let mut known = true;
        for part in &literal.value {
            match part {
                ast::FStringPart::Literal(literal) => text.push_str(literal),
                ast::FStringPart::FString(part) => {
                    for element in &part.elements {
                        match element {
                            InterpolatedStringElement::Literal(literal) => {
                                text.push_str(&literal.value);
                            }
                            InterpolatedStringElement::Interpolation(hole) => {
                                let value = self.evaluate(&hole.expression)?;
                                match self.display(&value) {
                                    Some(shown) if hole.format_spec.is_none() => {
                                        text.push_str(&shown);
                                    }
                                    _ => known = false,
                                }
                            }
                        }
                    }
                }
            }
            self.check_length(text.len())?;
        }
        Ok(if known {
            Value::text(&text)
        } else {
            Value::Unknown
        })
    }

    /// `str(value)`
    pub(super) fn shown(&self, value: &Value<'a>) -> Value<'a> {
        let text = self.display(value);
        text.map_or(Value::Unknown, |text| Value::text(&text))
    }

    /// The text of `str(value)`, where the reader knows it.
    pub(super) fn display(&self, value: &Value<'a>) -> Option<String> {
        match value {
            Value::Symbol(security) | Value::Security(security) => self
                .plan
                .securities
                .get(*security)
                .map(|security| security.ticker.clone()),
            value => value.display(),
        }
    }

    /// Truth, lengths included.
    pub(super) fn truth(&self, value: &Value<'a>) -> Option<bool> {
        match value {
            Value::List(list) => self.lists.get(*list).map(|list| !list.is_empty()),
            Value::Dict(dict) => self.dicts.get(*dict).map(|dict| !dict.is_empty()),
            value => value.truth(),
        }
    }
}
