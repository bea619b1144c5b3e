//! How the host is authorized at a remote MCP server: OAuth 2.1 with PKCE, as MCP asks of clients.
//!
//! An [`Authorization`] belongs to one account and one server. A person logs in: [`Authorization::begin`] answers the
//! address to open, [`Authorization::finish`] takes the redirect that follows. The result is a [`Login`], whose tokens an
//! [`HttpConnector`](crate::HttpConnector) sends and has renewed. A later login is another [`Login`]: connections of the
//! former one keep its tokens until they are closed.
//!
//! Invariants: no login without PKCE by S256, and none with endpoints that anyone on the way can read. Tokens go to the
//! server that they were issued for and to no other. No token, code, verifier or client secret is in an error or a log
//! line.

mod authorization;
mod callback;
mod flow;
mod stored;

pub use authorization::{Authorization, AuthorizationState, AuthorizationStatus, Ending, Login};
pub use callback::redirect_address;
pub use flow::{LoginError, OAuthClient, Revocation};
