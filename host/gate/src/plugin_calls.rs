//! What the gate offers to running plugins: all that the bindings and services of the runtime see of it.
//!
//! Invariant: a plugin cannot approve anything, end a halt or change what is in force with it.

use std::fmt::Debug;

use qchost_catalog::{BoxFuture, Operation};
use qchost_ledger::{StateStore, TrialCounts};
use serde_json::{Map, Value};

use crate::call::{Principal, SentMarker};
use crate::folders::{FolderAnswer, FolderFailure, FolderRequest};
use crate::outgoing::{Outgoing, RequestPermission};
use crate::refusal::Refusal;

/// The calls that a plugin makes. Each is decided before anything is sent.
pub trait PluginCalls: Debug + Send + Sync {
    /// Makes a call, and marks when it may have been sent, for callers that stop waiting for the answer. `arguments` are
    /// flat, under their JSON names. Returns the whole response body.
    ///
    /// # Errors
    /// When it is not allowed, its budget is exhausted, it awaits approval or is halted (nothing was sent in these
    /// cases), or the connection gave no usable answer.
    fn call_marked<'a>(
        &'a self,
        principal: &'a Principal,
        operation: &'static Operation,
        arguments: Map<String, Value>,
        sent_marker: SentMarker,
    ) -> BoxFuture<'a, Result<Value, Refusal>>;

    /// Calls a tool by its name. A tool that the catalog knows is treated as that operation.
    ///
    /// # Errors
    /// As [`call_marked`](Self::call_marked). A tool that the catalog does not know counts as trade, so it must be
    /// granted by its exact name.
    fn call_raw<'a>(
        &'a self,
        principal: &'a Principal,
        tool: &'a str,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, Refusal>>;

    /// Reads an object's bytes, at most `limit` of them: prepares the download, waits for it and fetches it. One
    /// decision, one record.
    ///
    /// # Errors
    /// As [`call_marked`](Self::call_marked); and when there is no such object, or it is larger than the limit.
    fn download<'a>(
        &'a self,
        principal: &'a Principal,
        organization: &'a str,
        key: &'a str,
        limit: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, Refusal>>;

    /// Checks that the plugin may have the host run batches for it.
    ///
    /// # Errors
    /// When its manifest does not allow it.
    fn check_workflow<'a>(&'a self, principal: &'a Principal)
    -> BoxFuture<'a, Result<(), Refusal>>;

    /// Counts the trials of a project, by reads that the host makes and the plugin pays for. One decision, one record.
    ///
    /// # Errors
    /// As [`call_marked`](Self::call_marked); and when the plugin may not make the reads itself, or one of them gave no
    /// usable answer.
    fn count_trials<'a>(
        &'a self,
        principal: &'a Principal,
        project: u32,
    ) -> BoxFuture<'a, Result<TrialCounts, Refusal>>;

    /// Decides about a plugin's request to another host, charged to the plugin.
    ///
    /// # Errors
    /// As for a call; nothing was resolved and nothing sent then.
    fn outgoing<'a>(
        &'a self,
        principal: &'a Principal,
        outgoing: Outgoing,
    ) -> BoxFuture<'a, Result<RequestPermission, Refusal>>;

    /// Does what a plugin asks of a folder of the host's machine. One decision, and one record, or two of a change.
    ///
    /// # Errors
    /// When the manifests in force do not grant it, a halt stops it, or the folder refuses it.
    fn folder<'a>(
        &'a self,
        principal: &'a Principal,
        asked: FolderRequest,
    ) -> BoxFuture<'a, Result<FolderAnswer, FolderFailure>>;

    /// Waits until an approval that one of this plugin's calls needs is decided.
    ///
    /// # Errors
    /// When it was refused, has expired, or belongs to another plugin.
    fn wait_approval<'a>(
        &'a self,
        principal: &'a Principal,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// Called when an invocation ends: in order, so that its client learns of its pending approvals, or cut off.
    fn invocation_ended(&self, principal: &Principal, in_order: bool);

    /// The key-value state of plugins.
    fn state(&self) -> &StateStore;
}
