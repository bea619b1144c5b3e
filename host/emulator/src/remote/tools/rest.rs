//! Calls of the REST API's services by the tools, so that both show one cloud.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::services::answer::{Answer, Refusal, Reply, fields};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::store::State;

/// A service that answers at once.
pub(super) type Service = fn(&Arc<Cloud>, &mut State, &Arguments) -> Answer;

/// Arguments of a service.
pub(super) fn arguments(of: Value) -> Arguments {
    Arguments {
        fields: fields(of),
        object_data: None,
    }
}

/// The fields of a service's answer.
pub(super) fn answered(answer: Answer) -> Result<Map<String, Value>, Refusal> {
    match answer? {
        Reply::Json(fields) => Ok(fields),
        _ => Err(Refusal::because("The answer is no JSON object")),
    }
}

/// All entries of a list that a service answers in windows of `width`, under `name`. `first` and `last` are the
/// names of the window's ends. While the entries are still loading, the answer that says so.
pub(super) fn all(
    (cloud, state): (&Arc<Cloud>, &mut State),
    service: Service,
    named: &Map<String, Value>,
    (first, last): (&str, &str),
    (name, width): (&str, usize),
) -> Result<Result<Vec<Value>, Reply>, Refusal> {
    let mut found = Vec::new();
    loop {
        let mut window = named.clone();
        window.insert(first.to_owned(), json!(found.len()));
        window.insert(last.to_owned(), json!(found.len() + width));
        let mut page = answered(service(cloud, state, &arguments(Value::Object(window))))?;
        let Some(Value::Array(entries)) = page.remove(name) else {
            return Ok(Err(Reply::Json(page)));
        };
        let count = entries.len();
        found.extend(entries);
        if count < width {
            return Ok(Ok(found));
        }
    }
}

/// A page of a list, from 1: what is shown of its entries under `name`, its number and the number of pages.
pub(super) fn page<T>(
    arguments: &Arguments,
    name: &str,
    entries: &[T],
    width: usize,
    show: impl FnMut(&T) -> Result<Value, Refusal>,
) -> Result<Value, Refusal> {
    let number = arguments.optional("page", Arguments::integer)?.unwrap_or(1);
    let skip = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1)?.checked_mul(width));
    let skip = skip.ok_or_else(|| Refusal::invalid("page", "a number from 1"))?;
    let shown = entries.iter().skip(skip).take(width).map(show);
    let shown: Vec<Value> = shown.collect::<Result<_, _>>()?;
    Ok(json!({
        name: shown,
        "page": number,
        "totalPages": entries.len().div_ceil(width).max(1),
    }))
}

/// Whether a text contains another one, whatever the case of their letters.
pub(super) fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_page_is_served_or_refused(number in any::<i64>(), count in 0usize..200) {
            let entries = vec![Value::Null; count];
            let asked = arguments(json!({"page": number}));
            match page(&asked, "entries", &entries, 50, |entry| Ok(entry.clone())) {
                Ok(page) => {
                    prop_assert!(number >= 1);
                    prop_assert!(page["entries"].as_array().unwrap().len() <= 50);
                }
                Err(_) => prop_assert!(!(1..=i64::MAX / 50).contains(&number)),
            }
        }
    }

    #[test]
    fn the_pages_together_have_all_entries() {
        let entries: Vec<u64> = (0..120).collect();
        let mut found = Vec::new();
        for number in 1..=3 {
            let asked = arguments(json!({"page": number}));
            let page = page(&asked, "it", &entries, 50, |entry| Ok(json!(entry))).unwrap();
            assert_eq!(page["totalPages"], 3);
            found.extend(page["it"].as_array().unwrap().clone());
        }
        assert_eq!(json!(found), json!(entries));
    }
}
