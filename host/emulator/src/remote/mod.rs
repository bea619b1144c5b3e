//! QuantConnect's remote MCP server on this machine, over the same store as the REST API: a client of both sees one
//! cloud.
//!
//! It is built from public descriptions alone, and nothing of it was compared with the server itself. What is known is
//! the list of tools with their meanings, some of their arguments, that answers carry `success`, `errors` and
//! `warnings`, and that the authorisation server has one grant type, no scopes, and gave a token of two hours without a
//! refresh token. The rest is a guess, in these places:
//!
//! - names of arguments: the table in [`tools`], where each guess is marked, also in the schema that a client reads;
//! - fields of answers beyond the three: those of the REST API, or invented;
//! - registration of clients, ending of tokens by clients, resource metadata, revisions of MCP: settings ([`settings::Remote`]);
//! - which project is open: the one that was created or read last;
//! - an organisation without an agent node: a tool's answer with `isError`;
//! - a file that does not compile: written, and a success with `compileErrors`.
//!
//! What it does not do: notebooks have no kernel, and answer the outputs that a test scripts; notifications are
//! recorded and not sent; a PDF is not read; datasets, libraries, templates and built-in skills are invented.
//!
//! Files import downwards: [`settings`], `oauth` and `tools`, `mcp`, `server`.

mod mcp;
mod oauth;
pub(crate) mod server;
pub(crate) mod settings;
mod tools;

/// The names of all tools.
pub(crate) fn tool_names() -> impl Iterator<Item = &'static str> {
    tools::names()
}
