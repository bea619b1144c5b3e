//! The ledger as the gate uses it, with real files and real crashes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod approvals;
mod backup;
mod budgets;
mod crash;
mod file;
mod in_force;
mod permits;
mod reads;
mod remembered;
mod trials;

use qchost_ledger::{ApprovalKind, Binding, Charge, NewApproval, NewReservation, PermitUse};
use serde_json::json;

/// 2023-11-14, 22:13:20 UTC.
const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A charge without a cost.
fn counted(grant: &str, per_day: u32) -> Charge {
    Charge {
        grant: grant.to_owned(),
        per_day: Some(per_day),
        cost: 0,
        cost_per_day: None,
    }
}

fn begin(call: &str, now: i64, charges: Vec<Charge>) -> NewReservation {
    NewReservation {
        call: call.to_owned(),
        account: "research".to_owned(),
        plugin: "lab".to_owned(),
        now,
        charges,
        permit: None,
    }
}

/// A call that needs only a permit.
fn with_permit(permit: &str, cost: u64, now: i64) -> NewReservation {
    NewReservation {
        permit: Some(PermitUse {
            permit: permit.to_owned(),
            cost,
        }),
        ..begin("permitted", now, Vec::new())
    }
}

fn binding() -> Binding {
    Binding {
        account: "research".to_owned(),
        plugin: "lab".to_owned(),
        digest: "sha256:aa".to_owned(),
        operation: "live/create-live-algorithm".to_owned(),
        profile_revision: "r1".to_owned(),
        arguments_hmac: "h1".to_owned(),
    }
}

/// An approval of a call that costs $2 and expires in an hour.
fn request() -> NewApproval {
    NewApproval {
        kind: ApprovalKind::Call,
        binding: binding(),
        view: json!({"project": "Lab/Momentum"}),
        contents: None,
        unannounced: false,
        needs: 1,
        interested: Vec::new(),
        reload_requesters: Vec::new(),
        requester: Some(1000),
        scope: json!({"project": 7, "name": "Lab/Momentum"}),
        cost: 20_000,
        source: None,
        now: NOW,
        expires: NOW + HOUR,
    }
}
