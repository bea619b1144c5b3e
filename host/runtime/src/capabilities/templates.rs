//! Starter projects: `quantconnect:api/templates`.

use crate::contract::quantconnect::api::templates::{Error, Host, Template, add_to_linker};

capability! {
    read_project_templates(description: String) -> Vec<Template>;
}
