//! The host's log: [`info!`](crate::info!) and its neighbours.
//!
//! What the agent prints to standard output and standard error becomes log lines too, and so
//! does the message of a panic.

pub use crate::bindings::qchost::agent::log::{Level, write};

/// Writes a line to the host's log at a level.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # let (project, backtests) = (7, 9);
/// info!("found {backtests} backtests");
/// info!(project = project, backtests = backtests, "found {} backtests", backtests);
/// ```
///
/// `trace!`, `debug!`, `info!`, `warn!` and `error!` are the same at their own level. Names before the text
/// become fields of the line; their values need `Display`.
#[macro_export]
macro_rules! log {
    ($level:expr, $format:literal $($arguments:tt)*) => {
        $crate::log::write($level, &::std::format!($format $($arguments)*), &[])
    };
    ($level:expr, $($name:ident = $value:expr,)+ $format:literal $($arguments:tt)*) => {
        $crate::log::write(
            $level,
            &::std::format!($format $($arguments)*),
            &[$((::std::string::String::from(::core::stringify!($name)), ::std::string::ToString::to_string(&$value))),+],
        )
    };
}

/// Logs what only helps to follow the code. Written like [`log!`](crate::log!), without a level.
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Trace, $($line)+) };
}

/// Logs what only helps to find a fault. Written like [`log!`](crate::log!), without a level.
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Debug, $($line)+) };
}

/// Logs what happened. Written like [`log!`](crate::log!), without a level.
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Info, $($line)+) };
}

/// Logs what an operator should look at. Written like [`log!`](crate::log!), without a level.
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Warn, $($line)+) };
}

/// Logs what went wrong. Written like [`log!`](crate::log!), without a level.
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Error, $($line)+) };
}
