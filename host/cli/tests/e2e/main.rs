//! End-to-end tests: the real binary, real child processes, real HTTP to an emulator in the test's process.
//!
//! One module a subject. A test asserts what a user of `qchost` would notice, and reads the emulator's
//! request log for what must or must not have been sent. If something that a test needs is missing, the
//! failure names the command that makes it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod accounts;
mod aliases;
mod alone;
mod apart;
mod approvals;
mod backups;
mod bad_input;
mod broken;
mod categories;
mod changes;
mod cloud;
mod common;
mod completions;
mod crowd;
mod data_edge;
mod demo;
mod denied;
mod dependencies;
mod desk;
mod discovery;
mod documents;
mod emulated;
mod evidence;
mod exit_statuses;
mod folders;
mod following;
mod gate;
mod guests;
mod guides;
mod halts;
mod health;
mod hostile_text;
mod interop;
mod load;
mod logins;
mod logs;
mod manual;
mod midwrite;
mod minimal;
mod odd_files;
mod outputs;
mod packaging;
mod people;
mod policies;
mod printed;
mod process;
mod quantconnect;
mod reconfigured;
mod records;
mod reloads;
mod remedies;
mod reports;
mod restarts;
mod revocation;
mod robustness;
mod running;
mod sandbox;
mod secrets;
mod service;
mod snapshots;
mod socket;
mod starting;
mod steady;
mod strategy_lab;
mod systemd;
mod tables;
mod tools;
mod upgrades;
mod verbs;
mod ways;
mod widening;
