//! What is known of a live deployment from what QuantConnect says of it: whether it has ended, and whether real money is
//! at stake.
//!
//! Invariant: what is not said, or not understood, counts as running and as real money.

use serde_json::{Map, Value};

/// The status of a deployment that was ended by closing its positions.
pub const LIQUIDATED: &str = "Liquidated";

/// Statuses of a deployment that has ended.
const FINAL_STATUSES: [&str; 5] = [
    "Stopped",
    LIQUIDATED,
    "RuntimeError",
    "DeployError",
    "Completed",
];

/// The modules of QuantConnect's own paper brokerage: its name in settings, and in answers.
const PAPER_BROKERAGES: [&str; 2] = ["QuantConnectBrokerage", "PaperBrokerage"];

/// With what an account trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Without real money.
    Paper,
    /// With real money.
    Live,
    /// Nothing says which; it counts as real money.
    Unknown,
}

/// The setting of a brokerage that says whether an account is a paper one.
struct Mode {
    brokerage: &'static str,
    setting: &'static str,
    /// Its values for accounts without real money.
    paper: &'static [&'static str],
    /// Its values for accounts with real money.
    live: &'static [&'static str],
}

const fn mode(
    brokerage: &'static str,
    setting: &'static str,
    paper: &'static [&'static str],
    live: &'static [&'static str],
) -> Mode {
    Mode {
        brokerage,
        setting,
        paper,
        live,
    }
}

/// The brokerages that have such a setting. All others trade with real money as far as can be told: Bitfinex, Charles
/// Schwab, Coinbase, Eze, Kraken, Public, RBI, Samco, Tastytrade, Wolverine, Zerodha. That of Interactive Brokers is in
/// answers only. The names of the modules of dYdX and Webull are a guess.
const MODES: [Mode; 11] = [
    mode(
        "AlpacaBrokerage",
        "alpaca-environment",
        &["paper"],
        &["live"],
    ),
    mode(
        "BinanceBrokerage",
        "binance-use-testnet",
        &["paper"],
        &["live"],
    ),
    mode(
        "BybitBrokerage",
        "bybit-use-testnet",
        &["paper", "demo"],
        &["live"],
    ),
    mode("DYDXBrokerage", "dydx-environment", &["paper"], &["live"]),
    mode(
        "InteractiveBrokersBrokerage",
        "ib-trading-mode",
        &["paper"],
        &["live"],
    ),
    mode(
        "OandaBrokerage",
        "oanda-environment",
        &["Practice"],
        &["Trade"],
    ),
    mode(
        "TerminalLinkBrokerage",
        "terminal-link-environment",
        &["Beta"],
        &["Production"],
    ),
    mode(
        "TradeStationBrokerage",
        "trade-station-environment",
        &["paper"],
        &["live"],
    ),
    mode(
        "TradierBrokerage",
        "tradier-environment",
        &["paper"],
        &["live"],
    ),
    mode(
        "TradingTechnologiesBrokerage",
        "tt-rest-environment",
        &["uat"],
        &["live"],
    ),
    mode(
        "WebullBrokerage",
        "webull-environment",
        &["paper"],
        &["live"],
    ),
];

/// A setting that only an answer has: what a profile says of it proves nothing.
const ANSWERED: &str = "ib-trading-mode";

/// Whether a brokerage has no real money at all.
#[must_use]
pub fn is_paper_brokerage(brokerage: &str) -> bool {
    PAPER_BROKERAGES.contains(&brokerage)
}

/// Whether a deployment of this status has ended. No status, and one that is not known, is no evidence that it has.
#[must_use]
pub fn has_ended(status: Option<&str>) -> bool {
    status.is_some_and(|status| FINAL_STATUSES.contains(&status))
}

/// Whether the settings of a brokerage profile choose an account without real money. `setting` gives the text of one.
#[must_use]
pub fn environment_of_profile<'a>(
    brokerage: &str,
    setting: impl Fn(&str) -> Option<&'a str>,
) -> Environment {
    environment(brokerage, |name| setting(name).filter(|_| name != ANSWERED))
}

/// Whether a deployment trades without real money, as it says of itself in the answer that reads it. An answer that names
/// a paper brokerage beside an account with real money contradicts itself and proves nothing.
#[must_use]
pub fn environment_of_deployment(answer: &Value) -> Environment {
    let Some(brokerage) = answer.get("brokerage").and_then(Value::as_str) else {
        return Environment::Unknown;
    };
    let details = answer.get("deploymentDetails").and_then(Value::as_object);
    let says_live = |mode: &Mode| {
        let value = said(details, mode.setting);
        value.is_some_and(|value| is_one(mode.live, value))
    };
    if is_paper_brokerage(brokerage) && MODES.iter().any(says_live) {
        return Environment::Unknown;
    }
    environment(brokerage, |name| said(details, name))
}

/// What details say; the text of an empty map is an empty list.
fn said<'a>(details: Option<&'a Map<String, Value>>, name: &str) -> Option<&'a str> {
    details?.get(name)?.as_str()
}

/// Whether a value is one of these, in any case.
fn is_one(values: &[&str], value: &str) -> bool {
    let mut values = values.iter();
    values.any(|known| known.eq_ignore_ascii_case(value))
}

fn environment<'a>(brokerage: &str, setting: impl Fn(&str) -> Option<&'a str>) -> Environment {
    if is_paper_brokerage(brokerage) {
        return Environment::Paper;
    }
    let mut modes = MODES.iter();
    let Some(mode) = modes.find(|mode| mode.brokerage == brokerage) else {
        return Environment::Unknown;
    };
    match setting(mode.setting) {
        Some(value) if is_one(mode.paper, value) => Environment::Paper,
        Some(value) if is_one(mode.live, value) => Environment::Live,
        _ => Environment::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// Whatever an answer has: only the brokerage's own setting, with a value of its own for paper, is evidence.
        #[test]
        fn nothing_else_is_evidence_of_paper(
            brokerage in prop_oneof![".{0,12}", prop::sample::select(MODES.map(|mode| mode.brokerage).to_vec()).prop_map(str::to_owned)],
            setting in prop_oneof![".{0,12}", prop::sample::select(MODES.map(|mode| mode.setting).to_vec()).prop_map(str::to_owned)],
            value in prop_oneof![Just(json!("paper")), Just(json!("Practice")), Just(json!("live")), ".{0,6}".prop_map(Value::from), any::<bool>().prop_map(Value::from)],
        ) {
            let mut details = Map::new();
            details.insert(setting.clone(), value.clone());
            let answer = json!({ "brokerage": brokerage, "deploymentDetails": details });
            let is_paper = environment_of_deployment(&answer) == Environment::Paper;
            let says_so = |mode: &Mode| {
                mode.brokerage == brokerage
                    && mode.setting == setting
                    && value.as_str().is_some_and(|value| mode.paper.iter().any(|it| it.eq_ignore_ascii_case(value)))
            };
            prop_assert_eq!(is_paper, is_paper_brokerage(&brokerage) || MODES.iter().any(says_so));
        }
    }

    #[test]
    fn a_status_that_is_not_known_is_no_end() {
        for status in [
            "Stopped",
            "Liquidated",
            "RuntimeError",
            "DeployError",
            "Completed",
        ] {
            assert!(has_ended(Some(status)), "{status}");
        }
        for status in [
            None,
            Some("Running"),
            Some("PendingInput"),
            Some("Idle"),
            Some("stopped"),
            Some(""),
        ] {
            assert!(!has_ended(status), "{status:?}");
        }
    }

    #[test]
    fn a_deployment_is_on_paper_only_if_it_says_so_in_its_brokerage_s_own_words() {
        let said = |brokerage: &str, details: Value| {
            environment_of_deployment(
                &json!({ "brokerage": brokerage, "deploymentDetails": details }),
            )
        };
        assert_eq!(said("PaperBrokerage", json!([])), Environment::Paper);
        for mode in &MODES {
            for value in mode.live {
                let contradiction = json!({ mode.setting: value });
                assert_eq!(said("PaperBrokerage", contradiction), Environment::Unknown);
            }
            for value in mode.paper {
                let agreement = json!({ mode.setting: value });
                assert_eq!(said("PaperBrokerage", agreement), Environment::Paper);
            }
        }
        for mode in &MODES {
            for (values, environment) in [
                (mode.paper, Environment::Paper),
                (mode.live, Environment::Live),
            ] {
                for value in values {
                    let details = json!({ mode.setting: value });
                    assert_eq!(said(mode.brokerage, details.clone()), environment);
                    assert_eq!(said("KrakenBrokerage", details), Environment::Unknown);
                }
            }
            for details in [
                json!([]),
                json!({}),
                json!({ mode.setting: "sandbox" }),
                json!({ mode.setting: true }),
            ] {
                assert_eq!(said(mode.brokerage, details), Environment::Unknown);
            }
        }
        assert_eq!(
            environment_of_deployment(
                &json!({ "deploymentDetails": { "alpaca-environment": "paper" } })
            ),
            Environment::Unknown
        );
    }

    #[test]
    fn a_profile_is_on_paper_by_its_settings_but_not_by_what_only_an_answer_says() {
        let chosen = |brokerage: &str, named: &str, value: &'static str| {
            environment_of_profile(brokerage, |name| (name == named).then_some(value))
        };
        for (brokerage, setting, value, environment) in [
            ("QuantConnectBrokerage", "", "", Environment::Paper),
            (
                "OandaBrokerage",
                "oanda-environment",
                "Practice",
                Environment::Paper,
            ),
            (
                "OandaBrokerage",
                "oanda-environment",
                "Trade",
                Environment::Live,
            ),
            (
                "BybitBrokerage",
                "bybit-use-testnet",
                "demo",
                Environment::Paper,
            ),
            (
                "KrakenBrokerage",
                "oanda-environment",
                "Practice",
                Environment::Unknown,
            ),
            (
                "InteractiveBrokersBrokerage",
                "ib-trading-mode",
                "paper",
                Environment::Unknown,
            ),
        ] {
            assert_eq!(
                chosen(brokerage, setting, value),
                environment,
                "{brokerage} {value}"
            );
        }
    }
}
