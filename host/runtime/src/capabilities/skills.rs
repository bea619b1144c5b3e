//! Skills: `quantconnect:api/skills`.

use crate::contract::quantconnect::api::skills::{Error, Host, add_to_linker};

capability! {
    list_skills() -> Vec<String>;
    load_skill(name: String) -> String;
}
