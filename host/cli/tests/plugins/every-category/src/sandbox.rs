//! Attempts that the sandbox forbids, and code that does not end.
//!
//! Each attempt uses the standard library, as any dependency of a plugin would, and reports its result; code
//! that does not end reports nothing.

use std::fmt::Display;
use std::hint::black_box;
use std::net::{TcpStream, ToSocketAddrs as _};

use qchost_sdk::prelude::*;
use serde::Serialize;

/// What came of an attempt.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Attempt {
    /// Whether it gave what it was after.
    succeeded: bool,
    /// What it gave, or the error.
    detail: String,
}

impl Attempt {
    fn of<T: Display, E: Display>(result: Result<T, E>) -> Self {
        let succeeded = result.is_ok();
        let detail = result.map_or_else(|error| error.to_string(), |value| value.to_string());
        Self { succeeded, detail }
    }
}

/// Reads a file.
pub(crate) fn read_file(path: &str) -> Attempt {
    Attempt::of(std::fs::read_to_string(path))
}

/// Writes a file.
pub(crate) fn write_file(path: &str) -> Attempt {
    Attempt::of(std::fs::write(path, "written by a plugin").map(|()| "written"))
}

/// Reads a variable of the environment, or finds any at all.
pub(crate) fn read_env(name: &str) -> Attempt {
    match std::env::vars().next() {
        Some((found, _)) => Attempt {
            succeeded: true,
            detail: format!("the environment has {found}"),
        },
        None => Attempt::of(std::env::var(name)),
    }
}

/// Connects to `host:port`.
pub(crate) fn open_socket(address: &str) -> Attempt {
    Attempt::of(TcpStream::connect(address).map(|_| "connected"))
}

/// Looks a name up.
pub(crate) fn look_up_name(name: &str) -> Attempt {
    let addresses = (name, 443).to_socket_addrs();
    let first = addresses.map(|mut it| it.next().map(|it| it.to_string()));
    match first {
        Ok(None) => Attempt {
            succeeded: false,
            detail: "the name has no address".into(),
        },
        Ok(Some(address)) => Attempt {
            succeeded: true,
            detail: address,
        },
        Err(error) => Attempt::of(Err::<String, _>(error)),
    }
}

/// Does not end.
pub(crate) fn loop_for_ever() -> u64 {
    let mut turns: u64 = 0;
    while black_box(true) {
        turns = turns.wrapping_add(1);
    }
    turns
}

/// Takes memory and keeps it, without end.
pub(crate) fn allocate() -> usize {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        kept.push(black_box(vec![1; 1 << 20]));
    }
    kept.len()
}

/// Calls itself without end.
pub(crate) fn recurse(depth: u64) -> u64 {
    if black_box(false) {
        return depth;
    }
    black_box(recurse(black_box(depth.wrapping_add(1)))).wrapping_add(1)
}
