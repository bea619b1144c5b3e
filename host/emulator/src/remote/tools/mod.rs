//! The 48 tools, one file a subject.
//!
//! A tool is a function from its [`arguments`] to an answer, over the [`workspace`]. It calls the services of the REST
//! API ([`rest`]) where they do the same, so that a client of both sees one cloud.
//!
//! Invariant: nothing is known of a tool's answer beyond `success`, `errors` and `warnings`; its other fields are those
//! of the REST API, or invented.

mod arguments;
mod backtests;
mod compile;
mod files;
mod live;
mod notifications;
mod object_store;
mod optimizations;
mod projects;
mod reference;
mod research;
mod rest;
pub(super) mod workspace;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::workspace::Workspace;
use crate::services::answer::{Answer, LaterAnswer, Refusal, Reply, fields};
use crate::services::arguments::Arguments;
use crate::store::State;

/// The function that answers a tool.
#[derive(Clone, Copy)]
enum Handler {
    /// Answers at once, with the state locked.
    Now(fn(&Workspace, &mut State, &Arguments) -> Answer),
    /// Waits for a compile, and locks the state before and after.
    Later(fn(Arc<Workspace>, Arguments) -> LaterAnswer),
}

/// One tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    meaning: &'static str,
    handler: Handler,
}

/// The handler of a tool, from the function that answers it.
macro_rules! handler {
    (Now $function:path) => {
        Handler::Now($function)
    };
    (Later $function:path) => {
        Handler::Later(|workspace, arguments| Box::pin($function(workspace, arguments)))
    };
}

/// Keeps the table at two lines a tool.
macro_rules! tools {
    ($($handler:ident $name:literal => $function:path, $meaning:literal;)*) => {
        const TOOLS: &[Tool] = &[$(Tool {
            name: $name,
            meaning: $meaning,
            handler: handler!($handler $function),
        },)*];
    };
}

tools! {
    Now "create_project" => projects::create,
        "Make a project with its files, and open it.";
    Now "list_projects" => projects::list,
        "Page through the organization's projects, the last changed first.";
    Now "read_project" => projects::read,
        "Read a project with its files, and open it.";
    Now "read_open_project" => projects::read_open,
        "Read the open project with its files.";
    Now "update_project" => projects::update,
        "Change a project's name or description.";
    Now "read_project_templates" => projects::templates,
        "Find starter projects by a description.";
    Later "create_file" => files::create,
        "Write a whole .py or .cs file, over an existing one, and compile.";
    Later "edit_file" => files::edit,
        "Replace a text that occurs once in a file, and compile.";
    Now "read_file" => files::read,
        "Read a file or a range of its lines.";
    Now "delete_file" => files::delete,
        "Delete a file.";
    Now "search_file_content" => files::search,
        "Find lines in all files of a project.";
    Later "create_compile" => compile::create,
        "Compile a project and answer the result.";
    Later "create_backtest" => backtests::create,
        "Compile a project and queue a backtest.";
    Now "read_backtest" => backtests::read,
        "Read a backtest's result and statistics.";
    Now "read_backtest_orders" => backtests::orders,
        "Page through a backtest's orders by tag, symbol, type, id or date.";
    Now "list_backtests" => backtests::list,
        "List a project's backtests.";
    Now "update_backtest" => backtests::update,
        "Change a backtest's name or note; the latest one's, if none is named.";
    Now "delete_backtest" => backtests::delete,
        "Delete a backtest.";
    Now "search_backtest_logs" => backtests::logs,
        "Find lines in a backtest's log.";
    Later "create_optimization" => optimizations::create,
        "Compile a project and queue an optimization.";
    Now "read_optimization" => optimizations::read,
        "Read an interpretation of an optimization in words.";
    Now "list_optimizations" => optimizations::list,
        "List a project's optimizations.";
    Now "delete_optimization" => optimizations::delete,
        "Delete an optimization with its results.";
    Later "create_live_algorithm" => live::create,
        "Compile a project and deploy it to the paper brokerage.";
    Now "read_live_algorithm" => live::read,
        "Read the state of the latest deployment.";
    Now "read_live_holdings" => live::holdings,
        "Read the positions of the latest deployment.";
    Now "search_live_logs" => live::logs,
        "Find lines in a deployment's log; in the latest one's, if none is named.";
    Now "stop_live_algorithm" => live::stop,
        "Stop the latest deployment; its positions stay open.";
    Now "liquidate_live_algorithm" => live::liquidate,
        "Close all positions of the latest deployment and stop it.";
    Now "jupyter_create_cell" => research::create_cell,
        "Insert a notebook cell, at the end unless told.";
    Now "jupyter_read_cell" => research::read_cell,
        "Read a notebook cell.";
    Now "jupyter_update_cell" => research::update_cell,
        "Replace a notebook cell's source.";
    Now "jupyter_delete_cell" => research::delete_cell,
        "Delete a notebook cell.";
    Now "jupyter_execute_cell" => research::execute_cell,
        "Answer a notebook cell's scripted output. The emulator has no kernel.";
    Now "jupyter_create_notebook" => research::create_notebook,
        "Replace the whole notebook.";
    Now "jupyter_read_notebook" => research::read_notebook,
        "Read the whole notebook.";
    Now "jupyter_execute_notebook" => research::execute_notebook,
        "Answer the scripted outputs of all cells. The emulator has no kernel.";
    Now "jupyter_get_image" => research::image,
        "Read an image of the research environment.";
    Now "object_store_set" => object_store::set,
        "Write a text object, over an existing one.";
    Now "object_store_pdf_to_markdown" => object_store::pdf,
        "Turn a stored PDF into markdown. The emulator reads no PDF.";
    Now "list_datasets" => reference::datasets,
        "List the datasets.";
    Now "get_dataset_details" => reference::dataset,
        "Read about a dataset.";
    Now "environment_library_support" => reference::libraries,
        "List the libraries of the environment.";
    Now "list_skills" => reference::skills,
        "List the skills.";
    Now "load_skill" => reference::skill,
        "Read a skill's text.";
    Now "send_email_notification" => notifications::email,
        "Record an email. The emulator sends nothing.";
    Now "send_sms_notification" => notifications::sms,
        "Record an SMS. The emulator sends nothing.";
    Now "send_telegram_notification" => notifications::telegram,
        "Record a Telegram message. The emulator sends nothing.";
}

/// The names of all tools.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}

/// The tool with a name.
pub(super) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// All tools as `tools/list` answers them.
pub(super) fn list() -> Vec<Value> {
    let tool = |tool: &Tool| {
        json!({
            "name": tool.name,
            "description": tool.meaning,
            "inputSchema": arguments::schema(tool.name),
        })
    };
    TOOLS.iter().map(tool).collect()
}

/// Carries out a call. A refusal is a result as well: `success` is false, and `errors` says why.
pub(super) async fn call(
    workspace: &Arc<Workspace>,
    tool: &'static Tool,
    asked: Map<String, Value>,
) -> Map<String, Value> {
    let answer = carry_out(workspace, tool, asked).await;
    let stored = workspace.cloud.storage_problem();
    let answer = match stored {
        Some(problem) => Err(Refusal::because(format!(
            "The emulator cannot store its data, and has it in memory only: {problem}"
        ))),
        None => answer,
    };
    let mut answer = match answer {
        Ok(Reply::Json(fields)) => fields,
        Ok(_) => fields(json!({"success": true, "errors": []})),
        Err(refusal) => refusal.into_body(),
    };
    let failed = answer.get("compileErrors").cloned();
    let warnings = failed.unwrap_or_else(|| json!([]));
    answer.entry("warnings").or_insert(warnings);
    answer.entry("errors").or_insert_with(|| json!([]));
    answer
}

async fn carry_out(
    workspace: &Arc<Workspace>,
    tool: &'static Tool,
    asked: Map<String, Value>,
) -> Answer {
    let asked = Arguments {
        fields: asked,
        object_data: None,
    };
    arguments::check(tool.name, &asked)?;
    let asked = arguments::with_project(workspace, tool.name, asked)?;
    match tool.handler {
        Handler::Now(handler) => handler(workspace, &mut workspace.cloud.state(), &asked),
        Handler::Later(handler) => handler(Arc::clone(workspace), asked).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_48_tools_and_each_is_there_once() {
        let names: BTreeSet<&str> = names().collect();
        assert_eq!(names.len(), 48);
        assert_eq!(TOOLS.len(), 48);
    }

    #[test]
    fn every_row_of_arguments_belongs_to_a_tool() {
        for name in arguments::tools() {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
