//! `orders`: the orders of a backtest, all or those that match a filter.

use qchost_sdk::backtests::BacktestOrderFilter;
use qchost_sdk::prelude::*;
use qchost_sdk::types::{Order, OrderDirection, OrderStatus, OrderType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::page;
use crate::project;

/// How many orders QuantConnect gives at a time.
const PAGE: u32 = 99;

/// The names of the types of orders.
const TYPES: [(&str, OrderType); 12] = [
    ("market", OrderType::Market),
    ("limit", OrderType::Limit),
    ("stop-market", OrderType::StopMarket),
    ("stop-limit", OrderType::StopLimit),
    ("market-on-open", OrderType::MarketOnOpen),
    ("market-on-close", OrderType::MarketOnClose),
    ("option-exercise", OrderType::OptionExercise),
    ("limit-if-touched", OrderType::LimitIfTouched),
    ("combo-market", OrderType::ComboMarket),
    ("combo-limit", OrderType::ComboLimit),
    ("combo-leg-limit", OrderType::ComboLegLimit),
    ("trailing-stop", OrderType::TrailingStop),
];

/// Which orders to read: those that match everything that is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Orders {
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The backtest; the newest of the project if not given.
    #[serde(default)]
    backtest: Option<String>,
    /// The ticker in any case, such as `SPY`, or the whole identifier of the security.
    #[serde(default)]
    symbol: Option<String>,
    /// Text that the tag contains, in any case.
    #[serde(default)]
    tag: Option<String>,
    /// The type of the orders, such as `market-on-open` or `limit`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// The day of creation, UTC, such as `2024-01-31`.
    #[serde(default)]
    date: Option<String>,
    /// The number of the order.
    #[serde(default)]
    id: Option<i32>,
    /// Position of the first matching order, from 0.
    #[serde(default)]
    start: u32,
    /// How many orders to give at most.
    #[serde(default = "page::count")]
    #[schemars(range(min = 1, max = 200))]
    count: u32,
}

/// A part of the orders.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// The project's id.
    project_id: u32,
    /// The backtest.
    backtest_id: String,
    /// The orders, by their numbers.
    orders: Vec<Row>,
    /// Position of the first of them.
    start: u32,
    /// The `start` of the orders after these; null if there are none.
    next: Option<u32>,
    /// How many orders the backtest has; null where a filter is given.
    total: Option<u32>,
}

/// An order. What QuantConnect does not give is null.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Row {
    /// Its number.
    id: i32,
    /// When it was created, UTC.
    created: Option<String>,
    /// When it was last filled, UTC.
    filled: Option<String>,
    /// The ticker.
    symbol: Option<String>,
    /// Its type, such as `market-on-open`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Its state, such as `filled`.
    status: Option<String>,
    /// `buy` or `sell`.
    direction: Option<String>,
    /// Units; negative for a sale.
    quantity: Option<f64>,
    /// Price in `currency`.
    price: Option<f64>,
    /// Value of the fills in `currency`.
    value: Option<f64>,
    /// Currency of price and value.
    currency: Option<String>,
    /// Limit price, if its type has one.
    limit_price: Option<f64>,
    /// Stop price, if its type has one.
    stop_price: Option<f64>,
    /// Fees of its fills, in the currency of the fee.
    fees: f64,
    /// The text that the algorithm attached.
    tag: Option<String>,
    /// What LEAN or the exchange said last about it, such as why it was refused.
    message: Option<String>,
}

fn type_name(kind: OrderType) -> String {
    if let OrderType::Other(name) = kind {
        return name;
    }
    let found = TYPES.iter().find(|(_, it)| *it == kind);
    found.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// The type of this name.
fn order_type(name: &str) -> Result<OrderType, Failure> {
    let found = TYPES.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| kind.clone()).ok_or_else(|| {
        Failure::invalid_input(format!(
            "there is no type of orders \"{name}\"; there are: {}",
            TYPES.map(|(known, _)| known).join(", ")
        ))
    })
}

fn status_name(status: OrderStatus) -> String {
    let name = match status {
        OrderStatus::New => "new",
        OrderStatus::Submitted => "submitted",
        OrderStatus::PartiallyFilled => "partially-filled",
        OrderStatus::Filled => "filled",
        OrderStatus::Canceled => "canceled",
        OrderStatus::NoStatus => "no-status",
        OrderStatus::Invalid => "invalid",
        OrderStatus::CancelPending => "cancel-pending",
        OrderStatus::UpdateSubmitted => "update-submitted",
        OrderStatus::Other(name) => return name,
    };
    name.to_owned()
}

fn direction_name(direction: OrderDirection) -> String {
    let name = match direction {
        OrderDirection::Buy => "buy",
        OrderDirection::Sell => "sell",
        OrderDirection::Hold => "hold",
        OrderDirection::Other(name) => return name,
    };
    name.to_owned()
}

impl From<Order> for Row {
    fn from(order: Order) -> Self {
        let fees = order.events.iter().filter_map(|it| it.order_fee_amount);
        let said = order.events.iter().rev();
        let said = said.filter_map(|it| it.message.clone());
        Self {
            id: order.id,
            created: order.created_time,
            filled: order.last_fill_time,
            symbol: order.symbol.and_then(|it| it.value.or(it.id)),
            kind: order.type_.map(type_name),
            status: order.status.map(status_name),
            direction: order.direction.map(direction_name),
            quantity: order.quantity,
            price: order.price,
            value: order.value,
            currency: order.price_currency,
            limit_price: order.limit_price,
            stop_price: order.stop_price,
            fees: fees.sum(),
            tag: order.tag.filter(|it| !it.is_empty()).map(page::cut),
            message: said.map(page::cut).find(|it| !it.is_empty()),
        }
    }
}

/// Runs the action.
pub(crate) fn run(input: Orders) -> Result<Listed, Failure> {
    page::check(input.count)?;
    let kind = input.kind.as_deref().map(order_type).transpose()?;
    let project = project::existing_or_default(input.project.clone())?;
    let backtest = page::backtest(&project, input.backtest.clone())?;
    let mut orders = Vec::new();
    let (mut next, mut total) = (None, None);
    for (start, end) in page::pieces(input.start, input.count, PAGE) {
        let (more, found) = if input.filters() {
            let request = BacktestOrderFilter {
                project_id: project.id,
                backtest_id: backtest.clone(),
                tag: input.tag.clone(),
                symbol: input.symbol.clone(),
                type_: kind.clone(),
                id: input.id,
                date: input.date.clone(),
                start,
                end,
            };
            let page = wait::until_ready(|| backtests::filter_backtest_orders(&request))?;
            (page.more, page.orders)
        } else {
            let page = wait::until_ready(|| {
                backtests::read_backtest_orders(project.id, &backtest, start, end)
            })?;
            total = Some(page.length);
            (end < page.length, page.orders)
        };
        orders.extend(found.into_iter().map(Row::from));
        next = more.then_some(end);
        if !more {
            break;
        }
    }
    Ok(Listed {
        project_id: project.id,
        backtest_id: backtest,
        orders,
        start: input.start,
        next,
        total,
    })
}

impl Orders {
    /// Whether anything but a range is asked for.
    fn filters(&self) -> bool {
        let texts = [&self.symbol, &self.tag, &self.date];
        texts.into_iter().any(Option::is_some) || self.kind.is_some() || self.id.is_some()
    }
}

#[cfg(test)]
mod tests {
    use qchost_sdk::types::OrderEvent;

    use super::*;

    #[test]
    fn only_what_is_more_than_a_range_filters() {
        let filters = |json: &str| serde_json::from_str::<Orders>(json).unwrap().filters();
        assert!(!filters(r#"{"start": 3, "count": 5, "backtest": "b"}"#));
        for json in [
            r#"{"symbol": "SPY"}"#,
            r#"{"tag": ""}"#,
            r#"{"type": "limit"}"#,
            r#"{"date": "2024-01-31"}"#,
            r#"{"id": 1}"#,
        ] {
            assert!(filters(json), "{json}");
        }
    }

    #[test]
    fn every_type_has_a_name_that_means_it() {
        for (name, kind) in TYPES {
            assert_eq!(order_type(name), Ok(kind.clone()));
            assert_eq!(type_name(kind), name);
        }
        assert_eq!(type_name(OrderType::Other("x".into())), "x");
        let failure = order_type("Limit").unwrap_err().to_string();
        assert!(failure.contains("there are: market, limit"), "{failure}");
    }

    #[test]
    fn a_row_has_the_fees_and_the_last_word_of_its_events() {
        let event = |fee, message: Option<&str>| OrderEvent {
            id: None,
            algorithm_id: None,
            order_id: None,
            order_event_id: None,
            time: None,
            status: None,
            symbol: None,
            symbol_value: None,
            symbol_permtick: None,
            direction: None,
            fill_quantity: None,
            fill_price: None,
            fill_price_currency: None,
            order_fee_amount: fee,
            order_fee_currency: None,
            quantity: None,
            limit_price: None,
            stop_price: None,
            message: message.map(str::to_owned),
            is_assignment: None,
            is_in_the_money: None,
        };
        let row = Row::from(Order {
            id: 7,
            tag: Some(String::new()),
            status: Some(OrderStatus::Invalid),
            events: vec![
                event(Some(1.0), Some("sent")),
                event(Some(0.5), Some("no buying power")),
                event(None, Some("")),
            ],
            ..Order::default()
        });
        assert_eq!((row.id, row.fees, row.tag), (7, 1.5, None));
        assert_eq!(row.message.as_deref(), Some("no buying power"));
        assert_eq!(row.status.as_deref(), Some("invalid"));
    }
}
