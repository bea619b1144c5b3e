//! remote-way: a test agent. It calls every function that goes by QuantConnect's remote MCP server, and reports the
//! result of each.

use std::fmt::Debug;

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// What the calls are about.
#[derive(Deserialize, JsonSchema)]
struct Target {
    /// The project whose notebook is replaced.
    project: u32,
    /// The address of an image.
    image: String,
}

/// What came of a call.
#[derive(Serialize, JsonSchema)]
struct Check {
    /// The operation, such as `skills/list-skills`.
    operation: &'static str,
    /// Whether it was answered.
    ok: bool,
    /// The answer or the error.
    shown: String,
}

fn check<T: Debug>(operation: &'static str, result: Result<T, Error>) -> Check {
    Check {
        operation,
        ok: result.is_ok(),
        shown: match result {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => error.to_string(),
        },
    }
}

const NOTEBOOK: &str = r#"{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"#;

/// Calls what the remote server has.
#[agent(name = "remote-way")]
mod agent {
    use super::*;

    /// Call every function, one after the other.
    #[action(destructive)]
    fn all(target: Target) -> Result<Vec<Check>, Failure> {
        let Target { project, image } = target;
        Ok(vec![
            check(
                "research/jupyter-create-notebook",
                research::jupyter_create_notebook(project, NOTEBOOK),
            ),
            check(
                "research/jupyter-create-cell",
                research::jupyter_create_cell(project, "print(1)", None),
            ),
            check(
                "research/jupyter-update-cell",
                research::jupyter_update_cell(project, 0, "print(6 * 7)"),
            ),
            check(
                "research/jupyter-execute-cell",
                research::jupyter_execute_cell(project, 0),
            ),
            check(
                "research/jupyter-read-cell",
                research::jupyter_read_cell(project, 0),
            ),
            check(
                "research/jupyter-execute-notebook",
                research::jupyter_execute_notebook(project),
            ),
            check(
                "research/jupyter-read-notebook",
                research::jupyter_read_notebook(project),
            ),
            check(
                "research/jupyter-delete-cell",
                research::jupyter_delete_cell(project, 0),
            ),
            check(
                "research/jupyter-get-image",
                research::jupyter_get_image(&image),
            ),
            check(
                "notifications/send-email-notification",
                notifications::send_email_notification("ops@example.com", "subject", "text"),
            ),
            check(
                "notifications/send-sms-notification",
                notifications::send_sms_notification("+15551234567", "text"),
            ),
            check(
                "notifications/send-telegram-notification",
                notifications::send_telegram_notification("-100123", "text"),
            ),
            check("datasets/list-datasets", datasets::list_datasets()),
            check(
                "datasets/get-dataset-details",
                datasets::get_dataset_details("Emulated US Equities"),
            ),
            check(
                "datasets/environment-library-support",
                datasets::environment_library_support(),
            ),
            check("skills/list-skills", skills::list_skills()),
            check("skills/load-skill", skills::load_skill("backtest-review")),
            check(
                "templates/read-project-templates",
                templates::read_project_templates("a moving average that crosses another one"),
            ),
        ])
    }
}
