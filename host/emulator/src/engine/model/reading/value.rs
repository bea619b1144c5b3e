//! The values that the reader computes with, and Python's operators on them.
//!
//! Invariant: what the reader cannot know is [`Value::Unknown`], and an operation on something
//! unknown is unknown: the reader never guesses a number.

use std::rc::Rc;

use jiff::civil::DateTime;
use ruff_python_ast::{CmpOp, Operator, StmtFunctionDef};

use crate::engine::model::numbers::display_float;

/// A value. Lists, dictionaries and objects live in the reader, so that they can be shared and
/// changed as in Python; here is only their number.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    /// An integer; one beyond 64 bits is unknown.
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    /// A list, tuple or set.
    List(usize),
    Dict(usize),
    /// An instance of a class of the project.
    Object(usize),
    /// A class of the project.
    Class(usize),
    /// A file of the project, imported.
    Module(usize),
    /// A function of the project, and the file that it stands in.
    Function(usize, &'a StmtFunctionDef),
    /// A method together with its object.
    Method(usize, BoundMethod<'a>),
    /// `super()` of an object in a method of a class.
    Super {
        object: usize,
        /// The class whose bases are meant.
        class: usize,
    },
    /// A method of a text, list or dictionary, by name.
    Builtin(Box<Value<'a>>, Rc<str>),
    /// A `datetime` or `date`.
    Moment(DateTime),
    /// A `timedelta`, in seconds.
    Span(f64),
    /// The `Symbol` of a security of the plan.
    Symbol(usize),
    /// A security of the plan.
    Security(usize),
    /// A moving average of the plan.
    Average(usize),
    /// A member of the algorithm's interface, such as `portfolio.invested`, under its name in
    /// lower case with underscores.
    Api(Rc<str>),
    /// A name that is not the project's, such as `Resolution.DAILY` or `timedelta`.
    Path(Rc<str>),
    /// A value that depends on something that the reader does not compute.
    Unknown,
}

/// A method: the class and file that it stands in, and its definition.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoundMethod<'a> {
    pub(super) class: usize,
    pub(super) file: usize,
    pub(super) def: &'a StmtFunctionDef,
}

/// An operation that Python itself refuses: exception type and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl Value<'_> {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Rc::from(text))
    }

    /// Python's name of the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Moment(_) => "datetime",
            Self::Span(_) => "timedelta",
            Self::Symbol(_) => "Symbol",
            Self::Security(_) => "Security",
            Self::Average(_) => "Indicator",
            Self::Function(..) | Self::Method(..) | Self::Builtin(..) => "function",
            Self::Class(_) => "type",
            Self::Module(_) => "module",
            Self::Object(_) | Self::Super { .. } => "object",
            Self::Api(_) | Self::Path(_) | Self::Unknown => "unknown",
        }
    }

    /// The number, where it is one; booleans count as in Python.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            #[expect(clippy::cast_precision_loss, reason = "as Python converts")]
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, where it is one.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether the value is one that the reader knows nothing about.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::Api(_) | Self::Path(_))
    }

    /// Whether equality is more than the reader compares.
    fn is_compound(&self) -> bool {
        matches!(
            self,
            Self::List(_) | Self::Dict(_) | Self::Object(_) | Self::Average(_)
        )
    }

    /// Truth, as far as it does not depend on the length of something in the reader.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::None => Some(false),
            Self::Bool(value) => Some(*value),
            Self::Int(value) => Some(*value != 0),
            Self::Float(value) => Some(*value != 0.0),
            Self::Text(text) => Some(!text.is_empty()),
            Self::Span(seconds) => Some(*seconds != 0.0),
            Self::List(_)
            | Self::Dict(_)
            | Self::Average(_)
            | Self::Api(_)
            | Self::Path(_)
            | Self::Unknown => None,
            _ => Some(true),
        }
    }

    /// `str(value)` of the simple types.
    pub(super) fn display(&self) -> Option<String> {
        Some(match self {
            Self::None => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => display_float(*value),
            Self::Text(text) => text.to_string(),
            Self::Moment(moment) => moment.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            _ => return None,
        })
    }
}

/// `left op right` for everything but lists.
pub(super) fn binary<'a>(
    op: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<Value<'a>, Refused> {
    if left.is_unknown() || right.is_unknown() {
        return Ok(Value::Unknown);
    }
    if let (Some(a), Some(b)) = (left.integer(), right.integer()) {
        return integers(op, a, b);
    }
    if let (Some(a), Some(b)) = (left.number(), right.number()) {
        return floats(op, a, b);
    }
    Ok(match (op, left, right) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => Value::text(&format!("{a}{b}")),
        (Operator::Add, Value::Moment(at), Value::Span(by))
        | (Operator::Add, Value::Span(by), Value::Moment(at)) => shift(*at, *by)?,
        (Operator::Sub, Value::Moment(at), Value::Span(by)) => shift(*at, -by)?,
        (Operator::Sub, Value::Moment(a), Value::Moment(b)) => {
            Value::Span(a.duration_since(*b).as_secs_f64())
        }
        (Operator::Add, Value::Span(a), Value::Span(b)) => Value::Span(a + b),
        (Operator::Sub, Value::Span(a), Value::Span(b)) => Value::Span(a - b),
        (Operator::Mult, Value::Span(a), b) | (Operator::Mult, b, Value::Span(a)) => {
            b.number().map_or(Value::Unknown, |b| Value::Span(a * b))
        }
        // Formatting is not read.
        (Operator::Mod, Value::Text(_), _) => Value::Unknown,
        (_, Value::None | Value::Text(_), _) | (_, _, Value::None | Value::Text(_)) => {
            let (op, left, right) = (op.as_str(), left.type_name(), right.type_name());
            let message = format!("unsupported operand type(s) for {op}: '{left}' and '{right}'");
            return Err(Refused::new("TypeError", message));
        }
        _ => Value::Unknown,
    })
}

fn shift<'a>(at: DateTime, seconds: f64) -> Result<Value<'a>, Refused> {
    jiff::SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .map(Value::Moment)
        .ok_or_else(|| Refused::new("OverflowError", "date value out of range"))
}

fn integers<'a>(op: Operator, a: i64, b: i64) -> Result<Value<'a>, Refused> {
    let as_floats = || floats(op, int_to_float(a), int_to_float(b));
    let result = match op {
        Operator::Add => a.checked_add(b),
        Operator::Sub => a.checked_sub(b),
        Operator::Mult => a.checked_mul(b),
        Operator::FloorDiv | Operator::Mod if b == 0 => return as_floats(),
        Operator::FloorDiv => a.checked_div_euclid(b).and_then(|quotient| {
            // Euclid's remainder is never negative; Python's has the divisor's sign.
            let inexact = a.checked_rem_euclid(b)? != 0;
            quotient.checked_sub(i64::from(b < 0 && inexact))
        }),
        Operator::Mod => a
            .checked_rem_euclid(b)
            .map(|rest| if b < 0 && rest != 0 { rest + b } else { rest }),
        Operator::Pow => match u32::try_from(b) {
            Ok(exponent) => a.checked_pow(exponent),
            Err(_) => return as_floats(),
        },
        Operator::Div => return as_floats(),
        Operator::BitAnd => Some(a & b),
        Operator::BitOr => Some(a | b),
        Operator::BitXor => Some(a ^ b),
        Operator::LShift | Operator::RShift | Operator::MatMult => None,
    };
    Ok(result.map_or(Value::Unknown, Value::Int))
}

fn int_to_float(value: i64) -> f64 {
    Value::Int(value).number().unwrap_or_default()
}

fn floats<'a>(op: Operator, a: f64, b: f64) -> Result<Value<'a>, Refused> {
    let divides = matches!(op, Operator::Div | Operator::FloorDiv | Operator::Mod);
    if divides && b == 0.0 {
        return Err(Refused::new("ZeroDivisionError", "division by zero"));
    }
    Ok(match op {
        Operator::Add => Value::Float(a + b),
        Operator::Sub => Value::Float(a - b),
        Operator::Mult => Value::Float(a * b),
        Operator::Div => Value::Float(a / b),
        Operator::FloorDiv => Value::Float(libm::floor(a / b)),
        Operator::Mod => Value::Float(a - b * libm::floor(a / b)),
        Operator::Pow => Value::Float(libm::pow(a, b)),
        _ => Value::Unknown,
    })
}

/// `left op right` where neither is a list; `None` where it cannot be known.
pub(super) fn compare(op: CmpOp, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    if left.is_unknown() || right.is_unknown() {
        // `Resolution.DAILY == Resolution.DAILY` is known all the same.
        return match (op, left, right) {
            (CmpOp::Eq | CmpOp::Is, Value::Path(a), Value::Path(b)) => Some(a == b),
            (CmpOp::NotEq | CmpOp::IsNot, Value::Path(a), Value::Path(b)) => Some(a != b),
            _ => None,
        };
    }
    if left.is_compound() && right.is_compound() {
        return None;
    }
    let ordering = match (left, right) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Moment(a), Value::Moment(b)) => Some(a.cmp(b)),
        (Value::Span(a), Value::Span(b)) => a.partial_cmp(b),
        (Value::Symbol(a), Value::Symbol(b)) | (Value::Security(a), Value::Security(b)) => {
            Some(a.cmp(b))
        }
        (Value::None, Value::None) => Some(std::cmp::Ordering::Equal),
        (a, b) => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => None,
        },
    };
    match op {
        CmpOp::Eq | CmpOp::Is => Some(ordering.is_some_and(|order| order.is_eq())),
        CmpOp::NotEq | CmpOp::IsNot => Some(ordering.is_none_or(|order| order.is_ne())),
        CmpOp::Lt => ordering.map(|order| order.is_lt()),
        CmpOp::LtE => ordering.map(|order| order.is_le()),
        CmpOp::Gt => ordering.map(|order| order.is_gt()),
        CmpOp::GtE => ordering.map(|order| order.is_ge()),
        CmpOp::In | CmpOp::NotIn => None,
    }
}
