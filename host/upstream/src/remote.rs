//! Calls to QuantConnect's remote server, in its names and back in ours.
//!
//! Invariants: a call has exactly the arguments that its row lists, so nothing is left for the server to fill in; and an
//! answer has the form that the REST API's has, so that no layer above knows by which way it came.

use std::collections::{BTreeMap, HashSet};

use qchost_catalog::{Failure, Form, Operation, RemoteTool};
use serde_json::{Map, Value, json};

use crate::MAX_MESSAGE;

/// Maximum pages of one answer.
pub(crate) const MAX_PAGES: u32 = 200;

/// The part of an address that belongs to QuantConnect.
const QUANTCONNECT: &str = "quantconnect.com";

/// The tool that answers a call with these arguments.
pub(crate) fn chosen(tool: &'static RemoteTool, given: &Map<String, Value>) -> &'static RemoteTool {
    let is_absent = |(name, value): (&String, &Value)| {
        value.is_null() || tool.all.is_some_and(|all| all.page == Some(name.as_str()))
    };
    tool.all
        .filter(|_| given.iter().all(is_absent))
        .unwrap_or(tool)
}

/// The arguments under the remote server's names. `server` is its address, whose own addresses are accepted too.
pub(crate) fn arguments(
    tool: &RemoteTool,
    given: &Map<String, Value>,
    server: Option<&str>,
) -> Result<Map<String, Value>, Failure> {
    let mut sent = Map::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        if tool.page == Some(name.as_str()) {
            sent.insert(name.clone(), value.clone());
            continue;
        }
        let mut known = tool.arguments.iter();
        let Some(argument) = known.find(|known| known.ours == name) else {
            return Err(Failure::InvalidArgument(format!(
                "{}: the remote server takes no `{name}`",
                tool.name
            )));
        };
        if argument.address && !is_quantconnect(value, server) {
            return Err(Failure::InvalidArgument(format!(
                "{}: `{name}` is no https address of QuantConnect's",
                tool.name
            )));
        }
        sent.insert(argument.theirs.to_owned(), value.clone());
    }
    Ok(sent)
}

/// Whether a value is an address of QuantConnect's, or of the server itself, which on this machine may be plain.
fn is_quantconnect(value: &Value, server: Option<&str>) -> bool {
    let parse = |text: &str| reqwest::Url::parse(text).ok();
    let Some(url) = value.as_str().and_then(parse) else {
        return false;
    };
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    if server
        .and_then(parse)
        .is_some_and(|own| own.origin() == url.origin())
    {
        return true;
    }
    let host = url.host_str().unwrap_or_default();
    let below = host.strip_suffix(QUANTCONNECT);
    url.scheme() == "https"
        && url.port().is_none()
        && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// The answer in the REST API's form.
pub(crate) fn answer(
    operation: &Operation,
    tool: &RemoteTool,
    body: Value,
) -> Result<Value, Failure> {
    if operation.answer == tool.answer && tool.form == Form::Same {
        return Ok(body);
    }
    let found = tool
        .answer
        .split('.')
        .filter(|step| !step.is_empty())
        .try_fold(body, |body, step| match body {
            Value::Object(mut fields) => fields.remove(step),
            _ => None,
        });
    let Some(found) = found else {
        return Err(Failure::UnexpectedResponse(format!(
            "the answer of {} has no `{}`",
            tool.name, tool.answer
        )));
    };
    let found = match tool.form {
        Form::Same => found,
        Form::One => Value::Array(vec![found]),
        Form::Lines => lines_by_file(tool, found)?,
    };
    Ok(operation.answer_path().rev().fold(found, |inner, step| {
        if step.parse::<usize>().is_ok() {
            Value::Array(vec![inner])
        } else {
            Value::Object(Map::from_iter([(step.to_owned(), inner)]))
        }
    }))
}

/// Maximum lines of one file, and characters of one line, in the answer to a search.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 300;

/// Matching lines as the function returns them: by file, and with a word on whether there are more.
fn lines_by_file(tool: &RemoteTool, found: Value) -> Result<Value, Failure> {
    let Value::Array(lines) = found else {
        return Err(no_list(tool));
    };
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut more = false;
    for line in lines {
        let (Some(file), Some(number), Some(text)) = (
            line.get("filePath").and_then(Value::as_str),
            line.get("line").and_then(Value::as_u64),
            line.get("text").and_then(Value::as_str),
        ) else {
            return Err(Failure::UnexpectedResponse(format!(
                "a line of {} has no file, number or text",
                tool.name
            )));
        };
        let matches = files.entry(file.to_owned()).or_default();
        if matches.len() < MAX_LINES {
            let text: String = text.chars().take(MAX_LINE).collect();
            matches.push(json!({ "line": number, "text": text }));
        } else {
            more = true;
        }
    }
    let files: Vec<Value> = files
        .into_iter()
        .map(|(name, matches)| json!({ "name": name, "matches": matches }))
        .collect();
    Ok(json!({ "files": files, "more": more, "success": true }))
}

/// The items of an answer that comes in pages, read so far.
#[derive(Default)]
pub(crate) struct Pages {
    items: Vec<Value>,
    /// The texts of the items, by which one that comes again is known.
    known: HashSet<String>,
    /// Bytes of these texts.
    bytes: usize,
}

impl Pages {
    /// Adds a page. Whether there may be another one: a page without a new item is the last.
    pub(crate) fn take(&mut self, tool: &RemoteTool, body: Value) -> Result<bool, Failure> {
        let Value::Object(mut body) = body else {
            return Err(no_list(tool));
        };
        let Some(Value::Array(items)) = body.remove(tool.answer) else {
            return Err(no_list(tool));
        };
        let before = self.items.len();
        for item in items {
            let text = item.to_string();
            let length = text.len();
            // What a server repeats because it ignores the number of the page ends the list.
            if !self.known.insert(text) {
                continue;
            }
            self.bytes = self.bytes.saturating_add(length);
            if self.bytes > MAX_MESSAGE {
                return Err(Failure::UnexpectedResponse(format!(
                    "the pages of {} have more than {MAX_MESSAGE} bytes",
                    tool.name
                )));
            }
            self.items.push(item);
        }
        Ok(self.items.len() > before)
    }

    /// The whole answer.
    pub(crate) fn body(self, tool: &RemoteTool) -> Value {
        Value::Object(Map::from_iter([
            ("success".to_owned(), Value::Bool(true)),
            (tool.answer.to_owned(), Value::Array(self.items)),
        ]))
    }
}

fn no_list(tool: &RemoteTool) -> Failure {
    Failure::UnexpectedResponse(format!(
        "the answer of {} has no list `{}`",
        tool.name, tool.answer
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qchost_catalog::{OPERATIONS, Remote, by_name};

    fn tool(name: &str) -> (&'static Operation, &'static RemoteTool) {
        let operation = by_name(name).unwrap();
        let Remote::Tool(tool) = operation.remote else {
            panic!("{name} has no tool");
        };
        (operation, tool)
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn arguments_go_under_the_names_of_the_table_and_no_others_go() {
        let (_, update) = tool("research/jupyter-update-cell");
        let given = object(json!({ "projectId": 7, "index": 0, "source": "x" }));
        assert_eq!(arguments(update, &given, None).unwrap(), given);
        let (_, list) = tool("projects/list-projects");
        assert_eq!(
            arguments(list, &object(json!({ "page": 2 })), None).unwrap(),
            object(json!({ "page": 2 }))
        );
        let (_, read) = tool("projects/read-project");
        let range = object(json!({ "projectId": 7, "start": 0 }));
        let refused = arguments(read, &range, None).unwrap_err().to_string();
        assert!(refused.contains("takes no `start`"), "{refused}");
        let absent = object(json!({ "projectId": 7, "start": null }));
        assert_eq!(
            arguments(read, &absent, None).unwrap(),
            object(json!({ "projectId": 7 }))
        );
    }

    #[test]
    fn an_image_is_read_from_quantconnect_only() {
        let (_, image) = tool("research/jupyter-get-image");
        let send = |url: &str, server| {
            let given = object(json!({ "url": url }));
            arguments(image, &given, server).is_ok()
        };
        for good in [
            "https://www.quantconnect.com/research/7/plot.png?x=1",
            "https://quantconnect.com/a.png",
            "https://cdn.quantconnect.com/a.png",
        ] {
            assert!(send(good, None), "{good}");
        }
        for bad in [
            "http://www.quantconnect.com/a.png",
            "https://quantconnect.com.evil.example/a.png",
            "https://evilquantconnect.com/a.png",
            "https://www.quantconnect.com@evil.example/a.png",
            "https://user:word@www.quantconnect.com/a.png",
            "https://www.quantconnect.com:8443/a.png",
            "file:///etc/passwd",
            "http://169.254.169.254/latest/meta-data",
            "//www.quantconnect.com/a.png",
            "",
        ] {
            assert!(!send(bad, None), "{bad}");
        }
        let own = Some("http://127.0.0.1:7000/mcp");
        assert!(send("http://127.0.0.1:7000/plot.png", own));
        assert!(!send("http://127.0.0.1:7001/plot.png", own));
    }

    #[test]
    fn pages_are_read_until_one_brings_nothing_new() {
        let (_, list) = tool("projects/list-projects");
        let mut pages = Pages::default();
        let page = |ids: &[u32]| {
            let items: Vec<_> = ids.iter().map(|id| json!({ "projectId": id })).collect();
            json!({ "success": true, "projects": items })
        };
        assert!(pages.take(list, page(&[1, 2])).unwrap());
        assert!(pages.take(list, page(&[2, 3])).unwrap());
        assert!(!pages.take(list, page(&[3])).unwrap(), "it repeats itself");
        assert!(!pages.take(list, page(&[])).unwrap());
        let body = pages.body(list);
        assert_eq!(body["projects"].as_array().unwrap().len(), 3);
        assert!(
            Pages::default()
                .take(list, json!({ "projects": "many" }))
                .is_err()
        );
        assert!(Pages::default().take(list, json!([])).is_err());
    }

    /// Each page may be as long as a message, and a server chooses how many there are.
    #[test]
    fn pages_together_are_no_longer_than_one_answer_may_be() {
        let (_, list) = tool("projects/list-projects");
        let mut pages = Pages::default();
        let mut numbers = 0..100;
        let mut page = || {
            let name = numbers
                .next()
                .map(|number| format!("{number}{}", "n".repeat(1 << 20)));
            pages.take(list, json!({ "projects": [{ "name": name }] }))
        };
        let refused = std::iter::repeat_with(&mut page).position(|taken| taken.is_err());
        assert_eq!(refused, Some(63));
    }

    #[test]
    fn answers_become_those_of_the_rest_api() {
        let (operation, read) = tool("projects/read-project");
        let body = json!({ "success": true, "project": { "projectId": 7 } });
        assert_eq!(
            answer(operation, read, body).unwrap(),
            json!({ "projects": [{ "projectId": 7 }] })
        );
        assert!(answer(operation, read, json!({ "success": true })).is_err());
        let (operation, search) = tool("files/search-file-content");
        let line = |file: &str, number: usize| json!({ "filePath": file, "line": number, "text": "x".repeat(400) });
        let mut lines = vec![line("b.py", 3)];
        lines.extend((1..=101).map(|number| line("a.py", number)));
        let found = answer(operation, search, json!({ "matches": lines })).unwrap();
        assert_eq!(found["more"], true);
        assert_eq!(found["files"][0]["name"], "a.py");
        assert_eq!(found["files"][0]["matches"].as_array().unwrap().len(), 100);
        assert_eq!(found["files"][1]["matches"][0]["line"], 3);
        let text = found["files"][1]["matches"][0]["text"].as_str().unwrap();
        assert_eq!(text.len(), 300);
        assert!(answer(operation, search, json!({ "matches": [{ "line": 1 }] })).is_err());
        // What only the remote server has is answered as it comes.
        let (operation, cell) = tool("research/jupyter-read-cell");
        let body = json!({ "success": true, "cell": { "source": "x" } });
        assert_eq!(answer(operation, cell, body.clone()).unwrap(), body);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("projects|cell|[a-z]{1,4}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_answer_and_no_argument_panics(
            row in 0..OPERATIONS.len(),
            body in any_json(),
            given in proptest::collection::btree_map("projectId|url|index|[a-z]{1,4}", any_json(), 0..4),
        ) {
            let operation = OPERATIONS.get(row).unwrap();
            if let Remote::Tool(tool) = operation.remote {
                let given: Map<String, Value> = given.into_iter().collect();
                if let Ok(sent) = arguments(tool, &given, None) {
                    let listed = |name: &String| tool.arguments.iter().any(|it| it.theirs == name);
                    prop_assert!(sent.keys().all(|name| listed(name) || tool.page == Some(name.as_str())));
                }
                drop(Pages::default().take(tool, body.clone()));
                drop(answer(operation, tool, body));
            }
        }
    }
}
