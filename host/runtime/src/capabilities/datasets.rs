//! Datasets on offer: `quantconnect:api/datasets`.

use crate::contract::quantconnect::api::datasets::{Error, Host, Json, add_to_linker};

capability! {
    list_datasets() -> Vec<String>;
    get_dataset_details(name: String) -> Json;
    environment_library_support() -> Json;
}
