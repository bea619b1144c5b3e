//! Records how a request ended.
//!
//! Invariant: an allowed request is recorded exactly once: when its response is read or dropped,
//! when it fails, or when the plugin ends in between.

use qchost_gate::{Refusal, RequestPermission};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::Error;

use super::count::Count;
use crate::calls::Wait;

/// A request under way.
pub(super) struct Record {
    permission: Option<RequestPermission>,
    status: Result<u16, String>,
    sent: Count,
    received: Count,
    /// Its permit among the plugin's open requests, and the mark that the plugin waits.
    _permit: (OwnedSemaphorePermit, Wait),
}

impl Record {
    pub(super) fn new(
        permission: RequestPermission,
        sent: Count,
        received: Count,
        permit: (OwnedSemaphorePermit, Wait),
    ) -> Self {
        Self {
            permission: Some(permission),
            status: Err("the plugin was gone before there was an answer".to_owned()),
            sent,
            received,
            _permit: permit,
        }
    }

    /// Whether it may still be sent.
    pub(super) fn clear(&self) -> Result<(), Refusal> {
        self.permission
            .as_ref()
            .map_or(Ok(()), RequestPermission::clear)
    }

    /// The response began.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = Ok(status);
    }

    /// It failed, before or during the response.
    pub(super) fn failed(&mut self, error: &Error) {
        self.status = Err(error.to_string());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(permission) = self.permission.take() {
            let status = std::mem::replace(&mut self.status, Err(String::new()));
            permission.finish(status, self.sent.passed(), self.received.passed());
        }
    }
}
