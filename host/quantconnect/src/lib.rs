//! QuantConnect's REST API v2 as an MCP server.

mod answer;
mod base;
mod connect;
mod credentials;
mod probe;
mod rest;
pub use answer::Answer;
pub use base::{BaseUrlError, CLOUD};
pub use credentials::{Credentials, CredentialsError};
pub use probe::{Probe, RateLimit};
pub use rest::{Effect, RestClient, RestError, RestOptions};
