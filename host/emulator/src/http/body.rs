//! The encodings in which clients of the cloud send their fields: JSON, forms with PHP's
//! bracket notation (`parameters[0][key]=…`, as the `lean` command line sends them), query
//! strings, and multipart for uploads.
//!
//! Invariant: any sequence of bytes either becomes an [`Arguments`] or a [`Refusal`]; depth and
//! size are bounded.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Multipart};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use crate::services::answer::Refusal;
use crate::services::arguments::Arguments;

/// How deep brackets may nest in a form field's name.
const MAX_FORM_DEPTH: usize = 4;

/// Reads the fields of a request from its query string and its body; the body wins.
pub(super) async fn parse(parts: &Parts, body: Bytes) -> Result<Arguments, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let mut arguments = Arguments {
        fields: form(query.as_bytes())?,
        object_data: None,
    };
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("multipart/form-data") {
        multipart(parts, body, &mut arguments).await?;
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        arguments.fields.extend(form(&body)?);
    } else if !body.iter().all(u8::is_ascii_whitespace) {
        arguments.fields.extend(json(&body)?);
    }
    Ok(arguments)
}

fn json(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::because("The request body must be a JSON object")),
        Err(error) => Err(Refusal::because(format!(
            "The request body is not valid JSON: {error}"
        ))),
    }
}

async fn multipart(parts: &Parts, body: Bytes, arguments: &mut Arguments) -> Result<(), Refusal> {
    let broken = |error: &dyn std::fmt::Display| {
        Refusal::because(format!("The multipart body cannot be read: {error}"))
    };
    let request = Request::from_parts(parts.clone(), Body::from(body));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| broken(&error))?;
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let Some(name) = field.name().map(str::to_owned) else {
            continue;
        };
        let content = field.bytes().await.map_err(|error| broken(&error))?;
        if name == "objectData" {
            arguments.object_data = Some(content);
        } else {
            let text = String::from_utf8(content.to_vec())
                .map_err(|_| Refusal::invalid(&name, "UTF-8 text"))?;
            arguments.fields.insert(name, Value::String(text));
        }
    }
    Ok(())
}

fn form(encoded: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut root = Map::new();
    for (name, value) in form_urlencoded::parse(encoded) {
        insert(&mut root, &path_of(&name)?, value.into_owned());
    }
    Ok(match with_lists(Value::Object(root)) {
        Value::Object(fields) => fields,
        // Only numbered names: nothing that an endpoint could ask for.
        _ => Map::new(),
    })
}

fn path_of(name: &str) -> Result<Vec<String>, Refusal> {
    let path: Vec<String> = name
        .split('[')
        .map(|part| part.trim_end_matches(']').to_owned())
        .collect();
    if path.len() > MAX_FORM_DEPTH {
        return Err(Refusal::because("A form field is nested too deeply"));
    }
    Ok(path)
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: String) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let name = match first.parse::<u32>() {
        Ok(index) => index.to_string(),
        // `name[]=…` appends.
        Err(_) if first.is_empty() => into.len().to_string(),
        Err(_) => first.clone(),
    };
    let child = into.entry(name).or_insert(Value::Null);
    if rest.is_empty() {
        *child = Value::String(value);
        return;
    }
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    if let Value::Object(children) = child {
        insert(children, rest, value);
    }
}

/// Sorts by name, and turns what has only numbers for names into lists. Numbers come first and in
/// numeric order, so that an indexed list keeps its order past nine entries.
fn with_lists(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let number = |name: &String| name.parse::<u32>().map_err(|_| name.clone());
    let is_list = !fields.is_empty() && fields.keys().all(|name| number(name).is_ok());
    let mut children: Vec<_> = fields.into_iter().collect();
    children.sort_by_cached_key(|(name, _)| number(name));
    let children = children
        .into_iter()
        .map(|(name, child)| (name, with_lists(child)));
    if is_list {
        Value::Array(children.map(|(_, child)| child).collect())
    } else {
        Value::Object(children.collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn brackets_become_lists_and_objects() {
        let encoded = "projectId=7&parameters[0][key]=fast&parameters[0][value]=10\
                       &parameters[1][key]=slow&parameters[1][value]=30&libraries[0]=9&files=";
        let fields = form(encoded.as_bytes()).unwrap();
        assert_eq!(
            Value::Object(fields),
            json!({
                "projectId": "7",
                "parameters": [
                    {"key": "fast", "value": "10"},
                    {"key": "slow", "value": "30"},
                ],
                "libraries": ["9"],
                "files": "",
            })
        );
    }

    #[test]
    fn lists_keep_their_order_past_nine_entries() {
        let encoded: Vec<String> = (0..12).map(|index| format!("a[{index}]={index}")).collect();
        let fields = form(encoded.join("&").as_bytes()).unwrap();
        let expected: Vec<String> = (0..12).map(|index| index.to_string()).collect();
        assert_eq!(fields["a"], json!(expected));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(form(b"a[b][c][d][e]=1").is_err());
    }

    proptest! {
        #[test]
        fn any_form_is_read_or_refused(encoded in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = form(&encoded);
        }

        #[test]
        fn any_bytes_are_json_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = json(&body);
        }
    }
}
