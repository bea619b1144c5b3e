//! `search`: QuantConnect's documentation, examples, forum and API signatures.

use qchost_sdk::ai::{SearchCriterion, SearchResult, SourceType};
use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::create_project::Written;
use crate::page;

/// How many passages of each collection are given at most.
const MAX_COUNT: u32 = 20;

/// What to search for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The question, in plain words.
    query: String,
    /// The collections to search.
    #[serde(default = "collections")]
    #[schemars(length(min = 1, max = 4))]
    collections: Vec<Collection>,
    /// How many passages to give of each collection at most.
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 20))]
    count: u32,
    /// The language of the algorithms that the passages are for.
    #[serde(default = "language")]
    language: Written,
}

fn collections() -> Vec<Collection> {
    vec![Collection::Docs, Collection::Examples, Collection::Forum]
}

fn count() -> u32 {
    5
}

fn language() -> Written {
    Written::Python
}

/// Something that can be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Collection {
    /// The documentation.
    Docs,
    /// Example algorithms.
    Examples,
    /// The forum.
    Forum,
    /// Signatures of LEAN's API.
    Stubs,
}

/// What was found.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Found {
    /// The passages, as QuantConnect orders them.
    passages: Vec<Passage>,
}

/// A passage. What QuantConnect does not give is null.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Passage {
    /// The collection that it is from.
    collection: Option<String>,
    /// Address of its page.
    url: Option<String>,
    /// Relevance; larger is better.
    score: Option<f64>,
    /// Its text; of a very long one the end is cut off.
    text: Option<String>,
}

/// Runs the action.
pub(crate) fn run(input: Search) -> Result<Found, Failure> {
    let criteria = criteria(&input)?;
    let answer = ai::search_quantconnect(&input.language.language(), &criteria)?;
    Ok(Found {
        passages: answer.retrivals.into_iter().map(passage).collect(),
    })
}

fn criteria(input: &Search) -> Result<Vec<SearchCriterion>, Failure> {
    if input.query.trim().is_empty() {
        return Err(Failure::invalid_input("`query` is empty"));
    }
    if !(1..=MAX_COUNT).contains(&input.count) {
        return Err(Failure::invalid_input(format!(
            "`count` is {}; it goes from 1 to {MAX_COUNT}",
            input.count
        )));
    }
    let mut collections: Vec<Collection> = Vec::new();
    for collection in &input.collections {
        if !collections.contains(collection) {
            collections.push(*collection);
        }
    }
    if collections.is_empty() {
        return Err(Failure::invalid_input("`collections` is empty"));
    }
    let criterion = |collection: Collection| SearchCriterion {
        input: input.query.clone(),
        type_: match collection {
            Collection::Docs => SourceType::Docs,
            Collection::Examples => SourceType::Examples,
            Collection::Forum => SourceType::Forum,
            Collection::Stubs => SourceType::Stubs,
        },
        count: input.count,
    };
    Ok(collections.into_iter().map(criterion).collect())
}

fn passage(result: SearchResult) -> Passage {
    let name = |kind: SourceType| match kind {
        SourceType::Docs => "docs".to_owned(),
        SourceType::Examples => "examples".to_owned(),
        SourceType::Forum => "forum".to_owned(),
        SourceType::Stubs => "stubs".to_owned(),
        SourceType::Other(name) => name,
    };
    Passage {
        collection: result.type_.map(name),
        url: result.url,
        score: result.score,
        text: result.content.map(page::cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<Vec<SourceType>, String> {
        let input: Search = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let criteria = criteria(&input).map_err(|failure| failure.to_string())?;
        Ok(criteria.into_iter().map(|it| it.type_).collect())
    }

    #[test]
    fn each_collection_is_asked_once() {
        assert_eq!(
            asked(r#"{"query": "warm up"}"#).unwrap(),
            [SourceType::Docs, SourceType::Examples, SourceType::Forum]
        );
        let twice = r#"{"query": "sma", "collections": ["stubs", "stubs"]}"#;
        assert_eq!(asked(twice).unwrap(), [SourceType::Stubs]);
    }

    #[test]
    fn a_search_without_a_question_is_refused() {
        for (json, words) in [
            (r#"{"query": " "}"#, "`query` is empty"),
            (r#"{"query": "x", "count": 0}"#, "`count` is 0"),
            (r#"{"query": "x", "count": 21}"#, "`count` is 21"),
            (
                r#"{"query": "x", "collections": []}"#,
                "`collections` is empty",
            ),
            (r#"{"query": "x", "collections": ["web"]}"#, "web"),
        ] {
            let error = asked(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    #[test]
    fn a_long_passage_is_cut() {
        let found = passage(SearchResult {
            url: None,
            score: Some(0.5),
            content: Some("x".repeat(10_000)),
            type_: Some(SourceType::Other("web".into())),
        });
        assert!(found.text.unwrap().len() < 3_000);
        assert_eq!(found.collection.as_deref(), Some("web"));
    }
}
