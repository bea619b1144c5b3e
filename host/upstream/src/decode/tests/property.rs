//! No answer makes the decoder panic or violate the invariants of the module.

use proptest::prelude::*;
use qchost_catalog::{Failure, OPERATIONS};
use serde_json::{Value, json};

use super::{decode, text};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        Just(json!("Chart is loading. Progress: 0.3")),
        Just(json!("hunter2")),
    ];
    let key = prop_oneof![
        "success", "errors", "failure", "kind", "progress", "status", "chart"
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    let marks = prop_oneof![
        Just(""),
        Just("Error executing tool x: "),
        Just("Server error '5"),
        Just("Client error '4"),
        Just("validation error for xArguments\n"),
        Just("Progress: "),
        Just("is loading "),
    ];
    prop_oneof![
        any_json().prop_map(|value| value.to_string()),
        (marks, any::<String>()).prop_map(|(mark, rest)| format!("{mark}{rest}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_answer_is_an_outcome_that_keeps_the_rules(
        index in proptest::option::of(0..OPERATIONS.len()),
        words in any_text(),
        structured in proptest::option::of(any_json()),
        is_error in any::<bool>(),
    ) {
        let operation = index.and_then(|index| OPERATIONS.get(index));
        let mut result = text(words, is_error);
        result.structured_content = structured;
        match decode(operation, result) {
            Ok(value) => {
                prop_assert!(!is_error);
                prop_assert_ne!(value.get("success"), Some(&json!(false)));
                prop_assert!(operation.is_none() || value.is_object());
            }
            Err(failure) => {
                let shown = failure.to_string();
                prop_assert!(!shown.contains("hunter2"), "{}", shown);
                prop_assert!(shown.len() < 100_000);
                let timed_out = matches!(failure, Failure::TimedOut { .. });
                prop_assert!(!timed_out, "a deadline is not the decoder's");
                if operation.is_some_and(|operation| operation.idempotent) {
                    let unknown = matches!(failure, Failure::UnknownOutcome(_));
                    prop_assert!(!unknown, "{}", shown);
                }
            }
        }
    }
}
