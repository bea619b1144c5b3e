//! Versions of LEAN: `quantconnect:api/lean-versions`.

use crate::contract::quantconnect::api::lean_versions::{
    Error, Host, LeanEnvironment, LeanVersion, add_to_linker,
};

capability! {
    read_lean_versions() -> Vec<LeanVersion>;
    read_lean_environments() -> Vec<LeanEnvironment>;
}
