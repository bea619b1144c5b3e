//! Every binding as one table: what the tests and the fuzz targets go through, one operation after
//! the other.

use qchost_catalog::Operation;
use qchost_catalog::shape::{Field, Type};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::adapter::{self, Misfit};

/// A binding, as the macro made it.
pub(crate) struct Bound {
    pub(crate) operation: &'static Operation,
    /// What becomes of the body of an answer.
    pub(crate) answer: fn(Value) -> Result<Answered, Misfit>,
    /// Arguments to typed values and back.
    pub(crate) there_and_back: fn(Value) -> Result<Map<String, Value>, Misfit>,
}

/// A typed answer.
pub(crate) struct Answered {
    /// It, written down.
    pub(crate) shown: String,
    /// The body that it stands for.
    pub(crate) body: Result<Value, Misfit>,
}

impl Answered {
    pub(crate) fn new<T: Serialize + std::fmt::Debug>(
        operation: &'static Operation,
        answer: &T,
    ) -> Self {
        Self {
            shown: format!("{answer:?}"),
            body: adapter::encode_answer(operation, answer),
        }
    }
}

/// Arguments as JSON, taken one parameter at a time.
pub(crate) struct Given {
    parameters: std::slice::Iter<'static, Field>,
    arguments: Value,
}

impl Given {
    pub(crate) fn of(operation: &'static Operation, arguments: Value) -> Self {
        let parameters = operation
            .function()
            .map_or(&[][..], |function| function.parameters);
        Self {
            parameters: parameters.iter(),
            arguments,
        }
    }

    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T, Misfit> {
        let field = self
            .parameters
            .next()
            .ok_or_else(|| serde::de::Error::custom("more parameters than the contract has"))?;
        let value = match (field.name, &field.ty) {
            ("request", Type::Record(_)) => self.arguments.take(),
            _ => self
                .arguments
                .get_mut(field.json)
                .map_or(Value::Null, Value::take),
        };
        adapter::decode(&field.ty, value)
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Bound> {
    [
        super::account::bound(),
        super::ai::bound(),
        super::backtests::bound(),
        super::collaboration::bound(),
        super::compile::bound(),
        super::files::bound(),
        super::lean_versions::bound(),
        super::live::bound(),
        super::live_commands::bound(),
        super::nodes::bound(),
        super::object_store::bound(),
        super::optimizations::bound(),
        super::projects::bound(),
        super::raw::bound(),
        super::server::bound(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
