//! The host as a process: how soon a changed component answers, how soon a host with a hundred plugins is ready, what it
//! takes when it idles, and how `qchost mcp` does beside the official server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod mcp;
mod plugins;
mod reload;
mod running;
mod start;

/// The host's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// All parts, or those that are named: `cargo bench --bench host -- reload`.
fn main() {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-'))
        .collect();
    for (name, part) in [
        ("reload", reload::run as fn()),
        ("start", start::run),
        ("mcp", mcp::run),
    ] {
        if named.is_empty() || named.iter().any(|it| it == name) {
            part();
        }
    }
}
