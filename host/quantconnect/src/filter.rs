//! The tool that filters the orders of a backtest: the REST API has pages of all of them only.
//!
//! Invariant: at most [`MAX_PAGES`] requests are made, each a read. An answer of the cloud that is not a page, such as a
//! refusal or that it is still loading, is the answer.

use qchost_catalog::{Failure, aside};
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::rest::{Effect, NoAnswer, RestClient};

/// Orders in a page, which are the most that the cloud answers with.
const PAGE: usize = 100;
/// Maximum pages that one call reads.
const MAX_PAGES: usize = 100;

/// What an order has to match.
#[derive(Debug, Default)]
struct Filter {
    /// In lower case.
    tag: Option<String>,
    symbol: Option<String>,
    order_type: Option<String>,
    id: Option<i64>,
    date: Option<String>,
}

impl Filter {
    fn of(arguments: &Map<String, Value>) -> Result<Self, Failure> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let date = text("date");
        if date.is_some_and(|date| !is_date(date)) {
            let fault = "date must be a day such as 2024-01-31".to_owned();
            return Err(Failure::InvalidArgument(fault));
        }
        Ok(Self {
            tag: text("tag").map(str::to_lowercase),
            symbol: text("symbol").map(str::to_owned),
            order_type: text("type").map(str::to_owned),
            id: arguments.get("id").and_then(Value::as_i64),
            date: date.map(str::to_owned),
        })
    }

    /// Whether an order matches. One that lacks what it has to match does not.
    fn fits(&self, order: &Value) -> bool {
        let text = |pointer: &str| order.pointer(pointer).and_then(Value::as_str);
        let has = |pointer: &str, wanted: &str| match order.pointer(pointer) {
            Some(Value::String(text)) => text == wanted,
            Some(Value::Number(number)) => number.to_string() == wanted,
            _ => false,
        };
        let tag = |wanted: &String| {
            let tag = text("/tag").unwrap_or_default();
            tag.to_lowercase().contains(wanted)
        };
        let symbol = |wanted: &String| {
            let ticker = text("/symbol/value");
            ticker.is_some_and(|ticker| ticker.eq_ignore_ascii_case(wanted))
                || has("/symbol/id", wanted)
        };
        let date = |wanted: &String| {
            let created = text("/createdTime").or_else(|| text("/time"));
            created.is_some_and(|created| created.starts_with(wanted))
        };
        self.tag.as_ref().is_none_or(tag)
            && self.symbol.as_ref().is_none_or(symbol)
            && self
                .order_type
                .as_ref()
                .is_none_or(|wanted| has("/type", wanted))
            && self.id.is_none_or(|wanted| has("/id", &wanted.to_string()))
            && self.date.as_ref().is_none_or(date)
    }
}

/// Whether a text has the form of a day.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The matching orders that were found so far.
#[derive(Debug)]
struct Found {
    /// How many more are passed over.
    skip: usize,
    /// How many are wanted.
    take: usize,
    orders: Vec<Value>,
    /// Whether there is one after those that are wanted.
    more: bool,
}

impl Found {
    /// Adds the matching ones of a page. Returns how many orders the page has; `None` if it is no page.
    fn add(&mut self, filter: &Filter, text: &str) -> Option<usize> {
        let mut body: Value = serde_json::from_str(text).ok()?;
        let Value::Array(orders) = body.get_mut("orders")?.take() else {
            return None;
        };
        let length = orders.len();
        for order in orders.into_iter().filter(|order| filter.fits(order)) {
            if self.skip > 0 {
                self.skip -= 1;
            } else if self.orders.len() < self.take {
                self.orders.push(order);
            } else {
                self.more = true;
                break;
            }
        }
        Some(length)
    }
}

impl RestClient {
    /// Answers with a range of the orders of a backtest that match.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`]; and if the range is empty, too long, or not among the first orders.
    pub(crate) async fn filter_orders(
        &self,
        endpoint: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, NoAnswer> {
        let filter = Filter::of(arguments)?;
        let position = |name: &str| {
            let position = arguments.get(name).and_then(Value::as_u64).unwrap_or(0);
            usize::try_from(position).unwrap_or(usize::MAX)
        };
        let (skip, end) = (position("start"), position("end"));
        let take = end.checked_sub(skip);
        let Some(take) = take.filter(|take| (1..=PAGE).contains(take)) else {
            let fault = format!("end must be from 1 to {PAGE} after start");
            return Err(Failure::InvalidArgument(fault).into());
        };
        let mut found = Found {
            skip,
            take,
            orders: Vec::new(),
            more: false,
        };
        let mut request = arguments.clone();
        request.retain(|name, _| ["projectId", "backtestId"].contains(&name.as_str()));
        for page in 0..MAX_PAGES {
            request.insert("start".to_owned(), json!(page * PAGE));
            request.insert("end".to_owned(), json!((page + 1) * PAGE));
            let answer = self.post(endpoint, &request, Effect::Repeatable).await?;
            if answer.is_rejected() {
                return Ok(answer);
            }
            let text = answer.text();
            let Some(length) = aside(text.len(), || found.add(&filter, text)) else {
                return Ok(answer);
            };
            if found.more || length < PAGE {
                let (orders, more) = (found.orders, found.more);
                let body = json!({ "orders": orders, "more": more, "success": true });
                return Ok(Answer::of(&body));
            }
        }
        Err(Failure::InvalidArgument(format!(
            "the range is not among the first {} orders of the backtest: read them in pages",
            MAX_PAGES * PAGE
        ))
        .into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(fields: Value) -> Filter {
        Filter::of(fields.as_object().unwrap()).unwrap()
    }

    #[test]
    fn an_order_fits_what_is_given_and_nothing_else() {
        let order = json!({
            "id": 7, "type": 4, "tag": "Stop Loss", "createdTime": "2024-01-31T14:30:00Z",
            "symbol": { "value": "SPY", "id": "SPY R735QTJ8XC9X" },
        });
        assert!(filter(json!({})).fits(&order));
        for (name, fitting, other) in [
            ("id", json!(7), json!(8)),
            ("type", json!("4"), json!("0")),
            ("tag", json!("stop"), json!("take")),
            ("symbol", json!("spy"), json!("QQQ")),
            (
                "symbol",
                json!("SPY R735QTJ8XC9X"),
                json!("spy r735qtj8xc9x"),
            ),
            ("date", json!("2024-01-31"), json!("2024-01-30")),
        ] {
            assert!(filter(json!({ name: fitting })).fits(&order), "{name}");
            assert!(!filter(json!({ name: other })).fits(&order), "{name}");
            assert!(!filter(json!({ name: fitting })).fits(&json!({})), "{name}");
        }
        let both = json!({ "id": 7, "tag": "take" });
        assert!(!filter(both).fits(&order));
        for date in ["2024", "2024-1-31", "31.01.2024", "2024-01-31T"] {
            let fields = json!({ "date": date });
            assert!(Filter::of(fields.as_object().unwrap()).is_err(), "{date}");
        }
    }

    proptest! {
        /// Whatever the pages are, a range has what filtering all orders at once gives.
        #[test]
        fn pages_are_filtered_as_the_whole_is(
            tags in prop::collection::vec("[ab]{0,2}", 0..40),
            page in 1_usize..8,
            skip in 0_usize..10,
            take in 1_usize..10,
        ) {
            let orders: Vec<Value> = tags.iter().map(|tag| json!({ "tag": tag })).collect();
            let filter = filter(json!({ "tag": "A" }));
            let mut found = Found { skip, take, orders: Vec::new(), more: false };
            for part in orders.chunks(page) {
                let text = json!({ "orders": part }).to_string();
                prop_assert_eq!(found.add(&filter, &text), Some(part.len()));
                if found.more {
                    break;
                }
            }
            let all: Vec<Value> = orders.into_iter().filter(|order| filter.fits(order)).collect();
            let wanted: Vec<Value> = all.iter().skip(skip).take(take).cloned().collect();
            prop_assert_eq!(found.orders, wanted);
            prop_assert_eq!(found.more, all.len() > skip + take);
        }

        #[test]
        fn no_answer_panics(text in "\\PC{0,60}") {
            let mut found = Found { skip: 0, take: 1, orders: Vec::new(), more: false };
            if let Some(length) = found.add(&Filter::default(), &text) {
                prop_assert!(found.orders.len() <= length);
            }
        }
    }
}
