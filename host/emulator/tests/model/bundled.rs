//! The strategies that come with the plugin strategy-lab: the model runs each, or says in the log what it cannot read.

use std::path::Path;

use qchost_emulator::engine::Report;

use crate::{files, statistic, try_run};

/// What the model makes of a strategy.
struct Case {
    strategy: &'static str,
    /// Another value of one of its parameters.
    change: (&'static str, &'static str),
    /// A part of the rule in the log; `None` if nothing is traded.
    rule: Option<&'static str>,
    /// What the log says was not read, in order.
    unread: &'static [&'static str],
}

const STRATEGIES: [Case; 6] = [
    Case {
        strategy: "moving-average-crossover",
        change: ("fast", "35"),
        rule: Some("SPY: hold 1.0 of the portfolio while SMA(20) of SPY is above SMA(100)"),
        unread: &[],
    },
    Case {
        strategy: "momentum-rotation",
        change: ("top", "4"),
        rule: Some(
            "GLD: hold 0.3333333333333333 of the portfolio while SMA(20) of GLD is above SMA(120)",
        ),
        unread: &[],
    },
    Case {
        strategy: "mean-reversion",
        change: ("trend", "120"),
        rule: Some("QQQ: hold 0.25 of the portfolio while SMA(10) of QQQ is above SMA(200)"),
        unread: &["std"],
    },
    Case {
        strategy: "pairs-trading",
        change: ("lookback", "30"),
        rule: None,
        unread: &["the amount of PortfolioTarget"],
    },
    Case {
        strategy: "channel-breakout",
        change: ("slow", "100"),
        rule: Some("USO: hold 0.25 of the portfolio while SMA(25) of USO is above SMA(150)"),
        unread: &[],
    },
    Case {
        strategy: "risk-parity",
        change: ("end", "2021-12-31"),
        rule: Some("TIP: hold 0.25 of the portfolio from the first day"),
        unread: &["the amount of PortfolioTarget"],
    },
];

fn run(strategy: &str, parameters: &[(&str, &str)]) -> Report {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/strategy-lab/strategies");
    let entries = std::fs::read_dir(folder.join(strategy)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let sources: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "py"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .filter(|(name, _)| !name.starts_with("test_"))
        .collect();
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    assert!(!files(&sources).is_empty(), "{strategy}");
    try_run(&sources, parameters).unwrap_or_else(|error| {
        panic!("{strategy}: {error}\n{}", error.stacktrace);
    })
}

#[test]
fn each_is_traded_by_the_rule_that_its_readme_names_or_not_at_all() {
    for Case {
        strategy,
        rule,
        unread,
        ..
    } in STRATEGIES
    {
        let report = run(strategy, &[]);
        let logged = |part: &str| report.logs.iter().any(|line| line.contains(part));
        let orders = report.orders.len();
        match rule {
            Some(rule) => {
                assert!(logged(rule), "{strategy}: {:?}", report.logs.get(..9));
                assert!(orders > 3, "{strategy}: {orders}");
            }
            None => {
                assert!(logged("nothing is traded"), "{strategy}");
                assert_eq!(orders, 0, "{strategy}");
                assert_eq!(statistic(&report, "Net Profit"), "0.000%");
            }
        }
        let lines = report.logs.iter();
        let named: Vec<&String> = lines
            .filter(|line| line.contains("not read by the model"))
            .collect();
        assert_eq!(named.len(), unread.len(), "{strategy}: {named:?}");
        for (line, part) in named.iter().zip(unread) {
            assert!(line.contains(part), "{strategy}: {line}");
        }
        for name in ["start", "end"] {
            assert!(report.parameters.contains_key(name), "{strategy}: {name}");
        }
    }
}

#[test]
fn a_parameter_changes_what_is_traded() {
    for Case {
        strategy,
        change,
        rule,
        ..
    } in STRATEGIES
    {
        let (before, after) = (run(strategy, &[]), run(strategy, &[change]));
        assert_ne!(before.parameters, after.parameters, "{strategy}");
        let same = before.statistics == after.statistics;
        assert_eq!(same, rule.is_none(), "{strategy}: {change:?}");
    }
}

#[test]
fn the_period_is_that_of_the_parameters() {
    for Case { strategy, .. } in STRATEGIES {
        let year = run(strategy, &[("start", "2020-01-01"), ("end", "2020-12-31")]);
        assert_eq!(year.tradeable_dates, 253, "{strategy}");
    }
}
