//! QuantConnect's REST API v2 as an MCP server: the tools of the official server and newer ones, in Rust, for any MCP
//! client on standard input and output, and for the host itself over a pipe.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use qchost_quantconnect::{Credentials, Options, RestClient, RestOptions, Server};
//!
//! let credentials = Credentials::new("12345", std::env::var("QUANTCONNECT_API_TOKEN")?.into())?;
//! let rest = RestClient::new(credentials, &RestOptions::default())?;
//! Server::new(rest, Options::default()).serve_stdio(Default::default()).await?;
//! # Ok(()) }
//! ```
//!
//! Invariant: it only translates. It does not decide which calls are allowed, sends each call once, and
//! passes on the cloud's body unchanged.

mod answer;
mod base;
mod composed;
mod connect;
mod credentials;
mod filter;
mod form;
mod headers;
mod logins;
mod probe;
mod rest;
mod server;
mod tools;

pub use answer::Answer;
pub use base::{BaseUrlError, CLOUD};
pub use credentials::{Credentials, CredentialsError};
pub use headers::RateLimit;
pub use probe::Probe;
pub use rest::{Effect, NoAnswer, RestClient, RestError, RestOptions};
pub use secrecy::SecretString;
pub use server::{Options, ServeError, Server};
