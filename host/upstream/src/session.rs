//! One MCP session: the handshake's result, the server's tools, and calls over it.
//!
//! Invariants: nothing here cancels a call. A caller that stops waiting leaves the request with the
//! server (`notifications/cancelled` is never sent), since a write that was sent must not be called back
//! half-way. Without a handshake, closing an HTTP request cancels it: there it stays open for a while longer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use qchost_catalog::{Clearance, Way, way_of};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, GetExtensions as _, InputRequiredResult,
    ServerResult,
};
use rmcp::service::{PeerRequestOptions, ServiceError};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::timeout_at;

use crate::connector::{CallDeadline, ConnectError, Connection, Connector, HeldBack};
use crate::fault::{self, Delivery};
use crate::shape::Input;
use crate::text::{Redactor, excerpt};
use crate::tools::{self, ListError};

/// Consecutive unanswered calls after which the session is given up.
const MAX_UNANSWERED_CALLS: u32 = 16;

/// How often a call is continued that a server answers with a state to bring again.
const MAX_ROUND_TRIPS: usize = 8;

/// How long a request stays open after its caller's deadline, where to close it would be to cancel it.
const OPEN_AFTER_DEADLINE: Duration = Duration::from_secs(60);

/// The server's identification in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// The server's own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The MCP version used.
    pub protocol: String,
    /// The number of its tools.
    pub tools: usize,
}

pub(crate) struct Session {
    connection: Connection,
    /// Whether it began with a handshake.
    has_handshake: bool,
    tools: HashMap<String, Input>,
    info: ServerInfo,
    /// Set when the session proved unusable although its transport still exists.
    broken: AtomicBool,
    answered: AtomicBool,
    /// Calls since the last answer whose deadline passed.
    unanswered: AtomicU32,
}

impl Session {
    /// Connects, completes the handshake and lists the tools, by which it is decided whether the server is of the kind
    /// that belongs to the connection of this name.
    pub(crate) async fn open(
        name: &str,
        connector: &dyn Connector,
        redactor: &Redactor,
        way: Way,
    ) -> Result<Self, ConnectError> {
        let connection = connector.connect().await?;
        let tools = match tools::list(connection.peer()).await {
            Ok(tools) => tools,
            // Retried at once, it would answer the same.
            Err(ListError::Endless(reason)) => {
                let error = ListError::Endless(redactor.line(&reason));
                return Err(ConnectError::Permanent(error.to_string()));
            }
            Err(ListError::Request(error)) => {
                let reason = redactor.line(&fault::words(&error));
                return Err(ConnectError::Transient(match connection.cause().await {
                    Some(cause) => cause,
                    None => format!("the server does not list its tools: {reason}"),
                }));
            }
        };
        connection.note_answer();
        if let Some(reason) = misplaced(name, way, tools.keys().map(String::as_str)) {
            return Err(ConnectError::Permanent(reason));
        }
        let peer = connection.peer().peer_info();
        let server = peer.as_ref().and_then(|peer| peer.server_info.as_ref());
        let short = |text: Option<&String>| excerpt(text.map_or("unknown", String::as_str), 80);
        let info = ServerInfo {
            name: short(server.map(|server| &server.name)),
            version: short(server.map(|server| &server.version)),
            protocol: short(
                peer.as_ref()
                    .map(|peer| peer.protocol_version.to_string())
                    .as_ref(),
            ),
            tools: tools.len(),
        };
        Ok(Self {
            has_handshake: connection.has_handshake(),
            connection,
            tools,
            info,
            broken: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
        })
    }

    pub(crate) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// What a tool takes, if the server has the tool.
    pub(crate) fn input(&self, tool: &str) -> Option<&Input> {
        self.tools.get(tool)
    }

    /// Whether the server has a tool of this name.
    pub(crate) fn has_tool(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    /// Whether it accepts calls.
    pub(crate) fn is_alive(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
            && !self.connection.is_endless()
            && !self.connection.peer().is_transport_closed()
    }

    /// Whether it ever answered a call, and so is worth reconnecting to.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether it was ended because its server sent without limit.
    pub(crate) fn is_endless(&self) -> bool {
        self.connection.is_endless()
    }

    /// Why it ended, as far as known.
    pub(crate) fn end(&self) -> Option<String> {
        self.connection.end()
    }

    /// Takes it out of service; calls under way on it still get their answers.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Sends a call, unless its clearance refuses, and waits for the result, at most until the deadline.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        deadline: Instant,
        clearance: &dyn Clearance,
    ) -> Delivery {
        let mut params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let mut rounds = 0;
        let mut withdrawn = None;
        let peer = self.connection.peer();
        let open_until = match self.has_handshake {
            true => deadline,
            false => deadline
                .checked_add(OPEN_AFTER_DEADLINE)
                .unwrap_or(deadline),
        };
        let delivery = loop {
            // Only a server without handshake answers that a call is to be continued.
            let again = (!self.has_handshake).then(|| params.clone());
            let mut request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
            request.extensions_mut().insert(CallDeadline(open_until));
            let held_back = HeldBack::default();
            request.extensions_mut().insert(held_back.clone());
            let renewed = tokio::select! {
                biased;
                renewed = timeout_at(deadline.into(), self.connection.renew_token()) => renewed,
                refusal = async { clearance.withdrawn().await } => {
                    return Delivery::Withheld(refusal);
                }
            };
            if renewed.is_err() {
                return Delivery::Late { sent: false };
            }
            // The last instant at which it can be held back: the queue behind this has room for more calls
            // than a session ever carries, and its consumer writes at once.
            if let Err(refusal) = clearance.clear() {
                return Delivery::Withheld(refusal);
            }
            let queued = peer.send_request_with_option(request, PeerRequestOptions::no_options());
            let handle = match timeout_at(deadline.into(), queued).await {
                Err(_) => return Delivery::Late { sent: false },
                // Rejected by the session itself, so it never reached the wire.
                Ok(Err(error)) => return Delivery::NotSent(fault::words(&error)),
                Ok(Ok(handle)) => handle,
            };
            let answer = timeout_at(deadline.into(), handle.await_response());
            tokio::pin!(answer);
            let answered = tokio::select! {
                biased;
                answered = &mut answer => answered,
                refusal = async { clearance.withdrawn().await }, if self.connection.renews_token() => {
                    held_back.hold();
                    withdrawn = Some(refusal);
                    answer.await
                }
            };
            match (answered, again) {
                (Err(_), _) => break Delivery::Late { sent: true },
                (Ok(Ok(ServerResult::CallToolResult(result))), _) => {
                    break Delivery::Answer(result);
                }
                (Ok(Ok(ServerResult::InputRequiredResult(required))), Some(again)) => {
                    rounds += 1;
                    match continued(&required, rounds) {
                        Ok(state) => params = again.with_request_state(state),
                        Err(reason) => break Delivery::Barred(reason),
                    }
                }
                (Ok(Ok(_)), _) => break fault::delivery(ServiceError::UnexpectedResponse),
                (Ok(Err(error)), _) => break fault::delivery(error),
            }
        };
        // Its token was refused, and it was not sent with another one.
        if let (Delivery::Unauthorized(_), Some(refusal)) = (&delivery, withdrawn) {
            return Delivery::Withheld(refusal);
        }
        match delivery {
            Delivery::Answer(_) | Delivery::Refused(_) => {
                self.answered.store(true, Ordering::Relaxed);
                self.unanswered.store(0, Ordering::Relaxed);
                self.connection.note_answer();
            }
            Delivery::NotSent(_) => self.give_up(),
            // A server that stopped answering is replaced; calls under way on it are waited for.
            Delivery::Late { sent: true } => {
                let earlier = self.unanswered.fetch_add(1, Ordering::Relaxed);
                if earlier.saturating_add(1) >= MAX_UNANSWERED_CALLS {
                    self.give_up();
                }
            }
            _ => {}
        }
        self.explain(delivery).await
    }

    /// Ends the session and waits until its server is gone. Calls under way on it are lost.
    pub(crate) async fn close(&self) {
        self.give_up();
        self.connection.close().await;
    }

    /// Adds why the peer is gone, if the transport knows.
    async fn explain(&self, delivery: Delivery) -> Delivery {
        let (Delivery::NotSent(reason) | Delivery::Lost(reason)) = &delivery else {
            return delivery;
        };
        let Some(cause) = self.connection.cause().await else {
            return delivery;
        };
        let reason = format!("{reason}: {cause}");
        match delivery {
            Delivery::NotSent(_) => Delivery::NotSent(reason),
            _ => Delivery::Lost(reason),
        }
    }
}

/// Why a server with these tools cannot be used for this way by the connection of this name. Names of tools decide that only one kind of server has: an address
/// says nothing, and a name that both have means something else at each.
fn misplaced<'a>(name: &str, way: Way, tools: impl Iterator<Item = &'a str>) -> Option<String> {
    let (mut rest, mut remote) = (0_usize, 0_usize);
    for tool in tools {
        match way_of(tool) {
            Some(Way::Rest) => rest = rest.saturating_add(1),
            Some(Way::Remote) => remote = remote.saturating_add(1),
            None => {}
        }
    }
    let has = format!(
        "it has {remote} of the tools that only QuantConnect's remote MCP server has, and {rest} of those in front of the \
         REST API"
    );
    match way {
        Way::Rest if remote > rest => Some(format!(
            "this is a remote MCP server ({has}), where some tools of the same names do something else; put it under \
             `[account.{name}.remote]`"
        )),
        Way::Remote if remote <= rest => Some(format!(
            "this is no remote MCP server of QuantConnect's ({has}); take it out of `[account.{name}]`: a server in front of \
             the REST API belongs to the account itself, one level above"
        )),
        Way::Rest | Way::Remote => None,
    }
}

/// The state with which a call is continued, or why it is not. The host declares no capability for input, so a server
/// that asks for some refuses the call; one that only wants its state back gets it.
fn continued(required: &InputRequiredResult, rounds: usize) -> Result<String, String> {
    let asked = required.input_requests.as_ref().map_or(0, |it| it.len());
    if asked > 0 {
        return Err(format!(
            "the server asks for input in the middle of the call ({asked} questions), and the host gives none"
        ));
    }
    if rounds > MAX_ROUND_TRIPS {
        return Err(format!(
            "the server let the call be continued {MAX_ROUND_TRIPS} times without an answer"
        ));
    }
    let state = required.request_state.clone();
    state.ok_or_else(|| "the server asks for input, and names none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICIAL: [&str; 5] = [
        "read_account",
        "create_backtest",
        "create_live_command",
        "read_backtest_chart",
        "create_file",
    ];
    const REMOTE: [&str; 4] = [
        "jupyter_execute_cell",
        "list_skills",
        "create_backtest",
        "create_file",
    ];

    #[test]
    fn a_server_is_known_by_what_it_lists() {
        let misplaced = |way, tools: &[&'static str]| {
            let name = match way {
                Way::Rest => "research",
                Way::Remote => "research.remote",
            };
            misplaced(name, way, tools.iter().copied())
        };
        assert_eq!(misplaced(Way::Rest, &OFFICIAL), None);
        assert_eq!(misplaced(Way::Remote, &REMOTE), None);
        let refused = misplaced(Way::Rest, &REMOTE).unwrap_or_default();
        assert!(
            refused.contains("put it under `[account.research.remote]`"),
            "{refused}"
        );
        let refused = misplaced(Way::Remote, &OFFICIAL).unwrap_or_default();
        assert!(
            refused.contains("out of `[account.research.remote]`"),
            "{refused}"
        );
        // Tools of a server of the operator's own are no evidence, and no remote server either.
        assert_eq!(misplaced(Way::Rest, &["tool_of_tomorrow"]), None);
        assert!(misplaced(Way::Remote, &["tool_of_tomorrow"]).is_some());
        assert!(misplaced(Way::Remote, &["create_backtest", "create_file"]).is_some());
    }
}
