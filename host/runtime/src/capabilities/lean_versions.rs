//! Versions of LEAN: `quantconnect:api/lean-versions`.

use crate::contract::quantconnect::api::lean_versions::{Error, Host, LeanVersion, add_to_linker};

capability! {
    read_lean_versions() -> Vec<LeanVersion>;
}
