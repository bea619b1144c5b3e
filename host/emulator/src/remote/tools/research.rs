//! Notebooks: the cells of a project's `.ipynb` file, which the REST API shows as well.
//!
//! There is no kernel. Executing a cell stores and answers the output that [`crate::Remote::cell_output`] scripts for
//! it; a cell without a script gets no output, and a warning says that it was not run.
//!
//! Invariant: a notebook that is stored is a JSON object with a list of cells, and is no longer than a file may be.

use serde_json::{Map, Value, json};

use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply, fields, refuse};
use crate::services::arguments::{Arguments, check_content};
use crate::store::State;
use crate::store::project::Project;

/// The name of a notebook that is made where the project has none.
const NAME: &str = "research.ipynb";
/// A picture of one pixel, as base64.
const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==";

/// A notebook, read from its file.
struct Notebook {
    name: String,
    root: Map<String, Value>,
    cells: Vec<Value>,
}

impl Notebook {
    fn parse(name: &str, text: &str) -> Result<Self, Refusal> {
        let invalid = || Refusal::because(format!("{name} is not a notebook"));
        let root: Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let Value::Object(mut root) = root else {
            return Err(invalid());
        };
        let Some(Value::Array(cells)) = root.remove("cells") else {
            return Err(invalid());
        };
        if !cells.iter().all(Value::is_object) {
            return Err(invalid());
        }
        Ok(Self {
            name: name.to_owned(),
            root,
            cells,
        })
    }

    /// The notebook of a project; an empty one if it has none.
    fn of(project: &Project) -> Result<Self, Refusal> {
        let mut files = project.files.iter();
        match files.find(|(name, _)| name.eq_ignore_ascii_case(NAME)) {
            Some((name, file)) => Self::parse(name, &file.content),
            None => Ok(Self {
                name: NAME.to_owned(),
                root: Map::from_iter([
                    ("metadata".to_owned(), json!({})),
                    ("nbformat".to_owned(), json!(4)),
                    ("nbformat_minor".to_owned(), json!(2)),
                ]),
                cells: Vec::new(),
            }),
        }
    }

    fn text(&self) -> String {
        let mut root = Map::new();
        root.insert("cells".to_owned(), self.cells.clone().into());
        root.extend(self.root.clone());
        format!("{:#}", Value::Object(root))
    }

    /// Stores it in its project.
    fn store(&self, state: &mut State, arguments: &Arguments) -> Result<(), Refusal> {
        let text = self.text();
        check_content(&text)?;
        let number = state.next_number();
        let project = state.project_mut(arguments)?;
        project.put(&self.name, &text, number);
        Ok(())
    }

    /// The place that `index` names, counted from 0.
    fn place(&self, arguments: &Arguments) -> Result<usize, Refusal> {
        let index = arguments.integer("index")?;
        let place = usize::try_from(index).ok();
        let place = place.filter(|place| *place < self.cells.len());
        place.ok_or_else(|| Refusal::not_found("Cell", index))
    }

    fn cell(&self, place: usize) -> Result<&Value, Refusal> {
        let cell = self.cells.get(place);
        cell.ok_or_else(|| Refusal::not_found("Cell", place))
    }

    /// Gives a cell the outputs that are scripted for it; `None` if none are.
    fn execute(&mut self, workspace: &Workspace, place: usize) -> Option<Value> {
        let cell = self.cells.get_mut(place)?.as_object_mut()?;
        let source = source_of(cell);
        let mut scripts = workspace.outputs.iter();
        let (_, printed) = scripts.find(|(part, _)| source.contains(part.as_str()))?;
        let outputs = json!([{"output_type": "stream", "name": "stdout", "text": printed}]);
        let count = cell.get("execution_count").and_then(Value::as_u64);
        let count = count.unwrap_or_default().saturating_add(1);
        cell.insert("execution_count".to_owned(), count.into());
        cell.insert("outputs".to_owned(), outputs.clone());
        Some(outputs)
    }
}

/// The source of a cell, which a notebook holds as a text or as a list of lines.
fn source_of(cell: &Map<String, Value>) -> String {
    match cell.get("source") {
        Some(Value::String(source)) => source.clone(),
        Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn code_cell(source: &str) -> Value {
    json!({
        "cell_type": "code",
        "execution_count": null,
        "metadata": {},
        "outputs": [],
        "source": source,
    })
}

fn not_run(places: &[usize]) -> Vec<String> {
    let warning = |place: &usize| {
        format!("Cell {place} was not run: the emulator has no kernel, and no output is scripted")
    };
    places.iter().map(warning).collect()
}

/// Inserts a cell, at the end unless told.
pub(super) fn create_cell(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let mut notebook = Notebook::of(state.project(arguments)?)?;
    let end = notebook.cells.len();
    let place = match arguments.optional("index", Arguments::integer)? {
        Some(index) => usize::try_from(index)
            .ok()
            .filter(|place| *place <= end)
            .ok_or_else(|| Refusal::not_found("Cell", index))?,
        None => end,
    };
    let cell = code_cell(arguments.text("source")?);
    notebook.cells.insert(place, cell);
    notebook.store(state, arguments)?;
    Reply::success(json!({"index": place}))
}

/// A cell with its source as one text, whatever its form in the notebook.
pub(super) fn read_cell(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let notebook = Notebook::of(state.project(arguments)?)?;
    let place = notebook.place(arguments)?;
    let mut cell = fields(notebook.cell(place)?.clone());
    let source = source_of(&cell);
    cell.insert("index".to_owned(), place.into());
    cell.insert("source".to_owned(), source.into());
    Reply::success(json!({"index": place, "cell": cell}))
}

/// Replaces a cell's source; its outputs go.
pub(super) fn update_cell(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let mut notebook = Notebook::of(state.project(arguments)?)?;
    let place = notebook.place(arguments)?;
    let cell = code_cell(arguments.text("source")?);
    if let Some(old) = notebook.cells.get_mut(place) {
        *old = cell;
    }
    notebook.store(state, arguments)?;
    Reply::success(json!({"index": place}))
}

pub(super) fn delete_cell(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let mut notebook = Notebook::of(state.project(arguments)?)?;
    let place = notebook.place(arguments)?;
    notebook.cells.remove(place);
    notebook.store(state, arguments)?;
    Reply::done()
}

pub(super) fn execute_cell(
    workspace: &Workspace,
    state: &mut State,
    arguments: &Arguments,
) -> Answer {
    let mut notebook = Notebook::of(state.project(arguments)?)?;
    let place = notebook.place(arguments)?;
    let outputs = notebook.execute(workspace, place);
    let warnings = match outputs {
        Some(_) => Vec::new(),
        None => not_run(&[place]),
    };
    notebook.store(state, arguments)?;
    let outputs = outputs.unwrap_or_else(|| json!([]));
    Reply::success(json!({"index": place, "outputs": outputs, "warnings": warnings}))
}

/// Executes all code cells in their order.
pub(super) fn execute_notebook(
    workspace: &Workspace,
    state: &mut State,
    arguments: &Arguments,
) -> Answer {
    let mut notebook = Notebook::of(state.project(arguments)?)?;
    let mut outputs = Vec::new();
    let mut left = Vec::new();
    for place in 0..notebook.cells.len() {
        let kind = notebook.cell(place)?.get("cell_type");
        if kind.and_then(Value::as_str) != Some("code") {
            continue;
        }
        match notebook.execute(workspace, place) {
            Some(found) => outputs.push(json!({"index": place, "outputs": found})),
            None => left.push(place),
        }
    }
    notebook.store(state, arguments)?;
    Reply::success(json!({"outputs": outputs, "warnings": not_run(&left)}))
}

/// Replaces the whole notebook.
pub(super) fn create_notebook(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let old = Notebook::of(state.project(arguments)?);
    // One that cannot be read is replaced as well.
    let name = old.map_or_else(|_| NAME.to_owned(), |old| old.name);
    let notebook = Notebook::parse(&name, arguments.text("notebook")?)?;
    notebook.store(state, arguments)?;
    Reply::success(json!({"cells": notebook.cells.len()}))
}

pub(super) fn read_notebook(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let notebook = Notebook::of(state.project(arguments)?)?;
    Reply::success(json!({"name": notebook.name, "notebook": notebook.text()}))
}

/// One pixel for any address of the emulator's own. No other address is opened.
pub(super) fn image(workspace: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    let url = arguments.text("url")?;
    if !url.starts_with(&format!("{}/", workspace.cloud.base_url)) {
        refuse!("The address is not one of the research environment");
    }
    Reply::success(json!({"mimeType": "image/png", "data": IMAGE}))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rest;
    use super::*;

    #[test]
    fn a_notebook_keeps_what_the_tools_do_not_know() {
        let text = r#"{"cells": [{"cell_type": "markdown", "source": ["a\n", "b"], "id": "1"}], "metadata": {"k": 1}, "nbformat": 4}"#;
        let notebook = Notebook::parse(NAME, text).unwrap();
        let again: Value = serde_json::from_str(&notebook.text()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
        let cell = notebook.cell(0).unwrap().as_object().unwrap();
        assert_eq!(source_of(cell), "a\nb");
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        for text in ["", "[]", "{}", r#"{"cells": 1}"#, r#"{"cells": [1]}"#] {
            assert!(Notebook::parse(NAME, text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_notebook_or_refused(text in ".{0,200}") {
            let _ = Notebook::parse(NAME, &text);
        }

        #[test]
        fn any_index_is_a_cell_or_refused(index in any::<i64>()) {
            let notebook = Notebook::parse(NAME, r#"{"cells": [{}, {}]}"#).unwrap();
            let asked = rest::arguments(json!({"index": index}));
            prop_assert_eq!(notebook.place(&asked).is_ok(), (0..2).contains(&index));
        }
    }
}
