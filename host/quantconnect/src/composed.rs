//! Tools that the REST API has no single endpoint for: write a file, edit a part of one, search the files of a
//! project, find projects.
//!
//! Invariants: a refusal of the cloud at any step is the answer, and nothing is sent after it; what is searched is read
//! once, in linear time, and what is answered is bounded; of an edit only the last request changes a file, and it is
//! refused if another code source took the lock since the file was read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use qchost_catalog::host_calls::{
    CREATE_FILE, LIST_PROJECTS, LOCK_PROJECT, READ_FILE, UPDATE_FILE_CONTENTS,
};
use qchost_catalog::{Failure, aside, is_deleted_project};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::rest::{Effect, NoAnswer, RestClient};

/// Maximum matching lines of one file.
const MAX_MATCHES: usize = 100;
/// Maximum bytes of all matching lines together.
const MAX_TEXT: usize = 1 << 20;
/// Maximum characters of a line.
const MAX_LINE: usize = 300;
/// Maximum projects of a page.
const MAX_PAGE: u64 = 100;

const PROJECT: &str = "projectId";
const NAME: &str = "name";
const CONTENT: &str = "content";
const CODE_SOURCE: &str = "codeSourceId";

/// The answer of `/files/read`.
#[derive(Deserialize)]
struct Files {
    #[serde(default)]
    files: Option<Vec<File>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    name: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    is_library: Option<bool>,
}

impl RestClient {
    /// Replaces the text of a file, or creates the file.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`].
    pub(crate) async fn write_file(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = arguments.clone();
        request.remove(CONTENT);
        let read = self
            .post(READ_FILE.endpoint, &request, Effect::Repeatable)
            .await?;
        let name = text(arguments, NAME);
        // A refusal says that the file is not there, or something that the next request is refused for too.
        let exists = !read.is_rejected() && files(&read)?.iter().any(|file| file.name == name);
        let write = if exists {
            UPDATE_FILE_CONTENTS
        } else {
            CREATE_FILE
        };
        self.post(write.endpoint, arguments, Effect::Repeatable)
            .await
    }

    /// Replaces the one place where a text occurs in a file.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`]; and if the old text is empty or the same as the new one, or does not occur exactly once.
    pub(crate) async fn edit_file(
        &self,
        arguments: &Map<String, Value>,
        effect: Effect,
    ) -> Result<Answer, NoAnswer> {
        let [name, old, new] = [NAME, "oldString", "newString"].map(|key| text(arguments, key));
        if old.is_empty() || old == new {
            let fault = "must not be empty, nor the same as newString";
            return Err(Failure::InvalidArgument(format!("oldString {fault}")).into());
        }
        let project = arguments.get(PROJECT).cloned().unwrap_or_default();
        let mut request = Map::from_iter([
            (PROJECT.to_owned(), project),
            (CODE_SOURCE.to_owned(), code_source().into()),
        ]);
        let locked = self
            .post(LOCK_PROJECT.endpoint, &request, Effect::Repeatable)
            .await?;
        if locked.is_rejected() {
            return Ok(locked);
        }
        request.insert(NAME.to_owned(), name.into());
        let read = self
            .post(READ_FILE.endpoint, &request, Effect::Repeatable)
            .await?;
        if read.is_rejected() {
            return Ok(read);
        }
        let files = files(&read)?;
        let file = files.into_iter().find(|file| file.name == name);
        let content = file.and_then(|file| file.content).ok_or_else(|| {
            Failure::UnexpectedResponse("the answer does not have the file's content".to_owned())
        })?;
        let changed = aside(content.len(), || replaced(&content, old, new))
            .map_err(|fault| Failure::Rejected(vec![fault.to_owned()]))?;
        request.insert(CONTENT.to_owned(), changed.into());
        self.post(UPDATE_FILE_CONTENTS.endpoint, &request, effect)
            .await
    }

    /// Finds the lines of a project's files that contain a text.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`]; and if the text is empty or more than a line.
    pub(crate) async fn search_files(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, NoAnswer> {
        let query = text(arguments, "query");
        if query.is_empty() || query.contains(['\n', '\r']) {
            let fault = "must not be empty, nor have a line break";
            return Err(Failure::InvalidArgument(format!("query {fault}")).into());
        }
        let project = arguments.get(PROJECT).cloned().unwrap_or_default();
        let request = Map::from_iter([(PROJECT.to_owned(), project)]);
        let read = self
            .post(READ_FILE.endpoint, &request, Effect::Repeatable)
            .await?;
        if read.is_rejected() {
            return Ok(read);
        }
        aside(read.text().len(), || {
            Ok(Answer::of(&found(&files(&read)?, query)))
        })
    }

    /// Finds projects by organisation and name.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`]; and if the range is empty or too long.
    pub(crate) async fn find_projects(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, NoAnswer> {
        let position = |name: &str| arguments.get(name).and_then(Value::as_u64);
        let start = position("start").unwrap_or(0);
        let end = position("end").unwrap_or(start.saturating_add(MAX_PAGE));
        let length = end.checked_sub(start).filter(|length| {
            // An empty page would say nothing about what comes after it.
            (1..=MAX_PAGE).contains(length)
        });
        let Some(length) = length else {
            let fault = format!("must be from 1 to {MAX_PAGE} after start");
            return Err(Failure::InvalidArgument(format!("end {fault}")).into());
        };
        let mut request = arguments.clone();
        request.retain(|name, _| !["query", "start", "end"].contains(&name.as_str()));
        let all = self
            .post(LIST_PROJECTS.endpoint, &request, Effect::Repeatable)
            .await?;
        if all.is_rejected() {
            return Ok(all);
        }
        aside(all.text().len(), || {
            let query = text(arguments, "query");
            let page = page(all.text(), query, start, length)?;
            Ok(Answer::of(&page))
        })
    }
}

/// The files in an answer.
fn files(read: &Answer) -> Result<Vec<File>, Failure> {
    let files: Files = serde_json::from_str(read.text())
        .map_err(|error| Failure::UnexpectedResponse(format!("the list of files: {error}")))?;
    Ok(files.files.unwrap_or_default())
}

/// The text with the one occurrence of `old` replaced.
fn replaced(content: &str, old: &str, new: &str) -> Result<String, &'static str> {
    let (before, after) = content
        .split_once(old)
        .ok_or("the old text does not occur in the file")?;
    // Occurrences may overlap, so the search goes on one character after the beginning of the first.
    let mut rest = content.get(before.len()..).unwrap_or_default().chars();
    rest.next();
    if rest.as_str().contains(old) {
        return Err("the old text occurs more than once in the file: take in more lines around it");
    }
    Ok([before, new, after].concat())
}

/// The lines that contain a text, in any case.
fn found(files: &[File], query: &str) -> Value {
    let query = query.to_lowercase();
    let (mut list, mut more, mut room) = (Vec::new(), false, MAX_TEXT);
    for file in files {
        if file.is_library == Some(true) {
            continue;
        }
        let content = file.content.as_deref().unwrap_or_default();
        let lines = content.lines().zip(1_u32..);
        let mut matches = Vec::new();
        for (line, number) in lines.filter(|(line, _)| line.to_lowercase().contains(&query)) {
            let end = line
                .char_indices()
                .nth(MAX_LINE)
                .map_or(line.len(), |(at, _)| at);
            let shown = line.get(..end).unwrap_or_default();
            let Some(left) = room.checked_sub(shown.len()) else {
                more = true;
                break;
            };
            if matches.len() == MAX_MATCHES {
                more = true;
                break;
            }
            room = left;
            matches.push(json!({ "line": number, "text": shown }));
        }
        if !matches.is_empty() {
            list.push(json!({ NAME: file.name, "matches": matches }));
        }
    }
    json!({ "files": list, "more": more, "success": true })
}

/// A range of the projects in an answer whose names contain a text.
fn page(answer: &str, query: &str, start: u64, length: u64) -> Result<Value, Failure> {
    let mut body: Value = serde_json::from_str(answer)
        .map_err(|error| Failure::UnexpectedResponse(format!("the list of projects: {error}")))?;
    let Some(Value::Array(projects)) = body.get_mut("projects").map(Value::take) else {
        let fault = "the answer has no list of projects";
        return Err(Failure::UnexpectedResponse(fault.to_owned()));
    };
    let query = query.to_lowercase();
    let fits = |project: &Value| {
        let name = project.get(NAME).and_then(Value::as_str);
        name.is_some_and(|name| !is_deleted_project(name) && name.to_lowercase().contains(&query))
    };
    let [start, length] = [start, length].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    let mut fitting = projects.into_iter().filter(fits).skip(start);
    let page: Vec<Value> = fitting.by_ref().take(length).collect();
    Ok(json!({ "projects": page, "more": fitting.next().is_some(), "success": true }))
}

fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> &'a str {
    arguments
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A name for the lock that no other edit has: of two edits of a project at a time, the first one loses the lock and is
/// refused, instead of undoing what the second did.
fn code_source() -> String {
    static EDITS: AtomicU64 = AtomicU64::new(0);
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let number = EDITS.fetch_add(1, Ordering::Relaxed);
    format!("qchost-edit-{started:x}-{number:x}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::string_slice)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_old_text_is_replaced_where_it_occurs_once() {
        assert_eq!(replaced("a b c", "b", "d").unwrap(), "a d c");
        assert_eq!(replaced("é b", "é", "").unwrap(), " b");
        for (content, old) in [
            ("a b", "c"),
            ("a a", "a"),
            ("aaa", "aa"),
            ("éé", "é"),
            ("", "a"),
        ] {
            assert!(replaced(content, old, "x").is_err(), "{old} in {content}");
        }
    }

    fn file(name: &str, content: &str) -> File {
        File {
            name: name.to_owned(),
            content: Some(content.to_owned()),
            is_library: None,
        }
    }

    #[test]
    fn a_search_shows_lines_in_any_case_and_says_if_there_are_more() {
        let mut library = file("lib.py", "Alpha");
        library.is_library = Some(true);
        let files = [
            file("a.py", "one\nALPHA é\r\nalpha"),
            file("b.py", "beta"),
            library,
        ];
        let answer = found(&files, "alphA");
        let matches = json!([{ "line": 2, "text": "ALPHA é" }, { "line": 3, "text": "alpha" }]);
        assert_eq!(
            answer["files"],
            json!([{ "name": "a.py", "matches": matches }])
        );
        assert_eq!(answer["more"], false);

        let many = found(&[file("a.py", &"alpha\n".repeat(MAX_MATCHES + 1))], "a");
        assert_eq!(
            many["files"][0]["matches"].as_array().unwrap().len(),
            MAX_MATCHES
        );
        assert_eq!(many["more"], true);
        let long = found(&[file("a.py", &"é".repeat(MAX_LINE + 1))], "É");
        let shown = long["files"][0]["matches"][0]["text"].as_str().unwrap();
        assert_eq!(shown.chars().count(), MAX_LINE);
    }

    #[test]
    fn a_search_answers_a_bounded_text() {
        let line = format!("{}\n", "a".repeat(MAX_LINE));
        let files: Vec<File> = (0..100)
            .map(|number| file(&format!("{number}.py"), &line.repeat(MAX_MATCHES)))
            .collect();
        let answer = found(&files, "a");
        assert!(answer.to_string().len() < 2 * MAX_TEXT);
        assert_eq!(answer["more"], true);
    }

    #[test]
    fn a_page_has_what_matches_and_no_deleted_project() {
        let names = [
            "Lab/One",
            "Recycle Bin/Lab one",
            "lab/oNe 2",
            "Other",
            "Lab/One 3",
        ];
        let projects: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        let answer = json!({ "projects": projects }).to_string();
        let of = |query, start, length| page(&answer, query, start, length).unwrap();
        let names = |page: &Value| -> Vec<String> {
            let projects = page["projects"].as_array().unwrap().iter();
            projects
                .map(|it| it["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let first = of("one", 0, 2);
        assert_eq!(names(&first), ["Lab/One", "lab/oNe 2"]);
        assert_eq!(first["more"], true);
        let last = of("one", 2, 2);
        assert_eq!(names(&last), ["Lab/One 3"]);
        assert_eq!(last["more"], false);
        assert_eq!(names(&of("", 0, 100)).len(), 4);
        assert!(page("{}", "", 0, 1).is_err());
    }

    proptest! {
        /// An edit changes one place and leaves the rest of the text as it is.
        #[test]
        fn an_edit_changes_only_what_was_asked_for(content in "[ab\n]{0,40}", old in "[ab]{1,4}", new in "[xy]{0,4}") {
            let count = content.char_indices().filter(|(at, _)| content[*at..].starts_with(&old)).count();
            let edited = replaced(&content, &old, &new);
            prop_assert_eq!(edited.is_ok(), count == 1);
            if let Ok(edited) = edited {
                prop_assert_eq!(edited.len() + old.len(), content.len() + new.len());
                prop_assert_eq!(edited, content.replacen(&old, &new, 1));
            }
        }

        #[test]
        fn any_files_and_any_text_are_searched(content in "\\PC{0,200}", query in "\\PC{1,5}") {
            let answer = found(&[file("a.py", &content)], &query);
            let listed = answer["files"].as_array().unwrap().len();
            let expected = content.lines().any(|line| line.to_lowercase().contains(&query.to_lowercase()));
            prop_assert_eq!(listed == 1, expected);
        }
    }
}
