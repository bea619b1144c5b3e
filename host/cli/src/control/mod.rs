//! The control socket: how the command line reaches a running host.
//!
//! A client connects, sends one short JSON line that describes its request, then the request itself in as many bytes as the
//! line announces, and reads JSON lines until the last one, which is the answer. The kernel identifies the client's user;
//! the first line decides whether the request is allowed, by the same engine that decides about plugins. Without a running
//! host the request is carried out in the client's own process, by the same rules.
//!
//! Invariants: nothing is read from a user without a role, and of a denied request only the first line is read; a client
//! that disconnects ends its invocation, and nothing else; replies contain no secret that the host has read.

mod authority;
mod client;
mod denials;
mod limits;
mod message;
mod plane;
mod presence;
mod reserve;
mod route;
mod server;
mod shared;
mod socket;
mod urgent;

pub use client::{
    Approach, Unopened, approach, ask_running, ask_starting, has_host, holder_error, perform,
    perform_lines, refused, take_lock,
};
pub use message::Unreadable;
pub use plane::ControlPlane;
pub use presence::Presence;
pub use route::Route;
pub use socket::listen;
