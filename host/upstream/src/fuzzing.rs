//! Entry points for the fuzz targets of `host/testing/targets`: the decoder of answers, as a connection uses
//! it.

use qchost_catalog::{Failure, Operation, Outcome};
use rmcp::model::{CallToolResult, ErrorData};
use secrecy::SecretString;
use serde_json::Map;

use crate::decode::Decoder;
use crate::text::Redactor;

/// The decoded answer to this operation, on a connection with these secrets.
pub fn answer(
    operation: Option<&'static Operation>,
    result: CallToolResult,
    secrets: &[&str],
) -> Outcome {
    Decoder {
        operation,
        redactor: &redactor(secrets),
        arguments: &Map::new(),
    }
    .answer(result)
    .map_err(|fault| fault.failure)
}

/// The decoded protocol error, on a connection with these secrets.
#[must_use]
pub fn refusal(
    operation: Option<&'static Operation>,
    error: &ErrorData,
    secrets: &[&str],
) -> Failure {
    Decoder {
        operation,
        redactor: &redactor(secrets),
        arguments: &Map::new(),
    }
    .protocol_error(error)
}

fn redactor(secrets: &[&str]) -> Redactor {
    Redactor::new(secrets.iter().map(|secret| SecretString::from(*secret)))
}
