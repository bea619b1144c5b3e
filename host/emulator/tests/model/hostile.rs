//! Sources that were made to hurt: each ends soon, in an error that says why or in a plain result.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::{CROSSOVER, algorithm, compile, failure, run, try_run};

/// Far above what any of these takes on a slow machine without optimisation, and far below what
/// they would take without bounds.
const SOON: Duration = Duration::from_secs(30);

fn soon<T>(what: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = what();
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    result
}

/// The place and message of the first compile error.
fn compile_error(source: &str) -> (u32, String) {
    let found = soon(|| compile(&[("main.py", source)]));
    let first = found.errors.into_iter().next().expect("an error");
    (first.line, first.message)
}

#[test]
fn sources_nested_too_deeply_are_refused_with_their_line() {
    let deep = |open: &str, close: &str| {
        format!(
            "a = 1\nb = {}1{}\n",
            open.repeat(20_000),
            close.repeat(20_000)
        )
    };
    for source in [
        deep("(", ")"),
        deep("[", "]"),
        deep("{", "}"),
        deep("-", ""),
        deep("not ", ""),
        deep("lambda x, y: ", ""),
        deep("1 if 1 else ", ""),
        deep("f(", ")"),
        deep("", "()"),
        deep("", ".a"),
        deep("", "[0]"),
        deep("1 + ", ""),
        deep("2 ** ", ""),
        deep("( ] ", ""),
        deep("f'{", "}'"),
    ] {
        let (line, message) = compile_error(&source);
        assert_eq!(line, 2, "{message}");
        assert!(message.contains("too complex"), "{message}");
        assert!(try_run(&[("main.py", &source)], &[]).is_err());
    }
    let indented: String = (0..1_100)
        .map(|depth| format!("{}if 1:\n", " ".repeat(depth)))
        .collect();
    assert!(compile_error(&indented).1.contains("too complex"));
}

#[test]
fn long_sources_that_are_not_deep_are_read() {
    let tickers: Vec<String> = (0..3_000).map(|n| format!("('T{n}', {n})")).collect();
    let data = format!(
        "DATA = [{}]\nTEXT = '''{}'''\n",
        tickers.join(", "),
        "line\n".repeat(5_000)
    );
    let source = format!("{data}{}", algorithm("self.set_cash(len(DATA))", ""));
    assert!(compile(&[("main.py", &source)]).errors.is_empty());
    assert_eq!(run(&source).days[0].cash, 3_000.0);
}

#[test]
fn files_beyond_the_limit_are_refused() {
    let large = "x = 1\n".repeat(2_000_000);
    let (line, message) = compile_error(&large);
    assert_eq!(line, 1);
    assert!(message.contains("too large"), "{message}");
    let medium = "x = 1\n".repeat(170_000);
    let many: Vec<(String, &str)> = (0..8)
        .map(|n| (format!("f{n}.py"), medium.as_str()))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .collect();
    assert!(
        soon(|| compile(&many))
            .errors
            .iter()
            .any(|e| e.message.contains("too large"))
    );
}

#[test]
fn an_initialize_without_end_is_cut_off() {
    for initialize in [
        "while True:\n    pass",
        "while True:\n    try:\n        x = 1 / 0\n    except:\n        pass",
        "for i in range(10 ** 5):\n    for j in range(10 ** 5):\n        pass",
        "for i in range(10 ** 12):\n    pass",
        "x = [0] * 10 ** 9",
        "x = [0]\nwhile True:\n    x = x + x",
        "x = 'a'\nwhile True:\n    x = x + x",
        "x = []\nwhile True:\n    x.append(x)",
        "x = []\nwhile True:\n    x.append('a' * 90000)",
        "x = 'a' * 10\nwhile True:\n    x = x.replace('a', 'aaaaaaaaaa')",
        "x = {}\ni = 0\nwhile True:\n    i += 1\n    x[i] = i",
        "self.initialize()",
        "f = lambda: f()\nself.add_equity('SPY')\nwhile True:\n    self.sma('SPY', 5)",
    ] {
        let error = soon(|| failure(&algorithm(initialize, ""), &[]));
        assert!(error.in_initialize);
        assert!(
            error.message.contains("TooComplex") || error.message.contains("RecursionError"),
            "{initialize}: {}",
            error.message
        );
    }
}

#[test]
fn a_method_too_complex_to_survey_is_left_out_and_said() {
    let report = soon(|| {
        run(&algorithm(
            "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 2, 1)\nself.x = list(range(1000))",
            "for a in self.x:\n    for b in self.x:\n        for c in self.x:\n            pass",
        ))
    });
    assert!(report.logs.iter().any(|line| line.contains("too complex")));
}

#[test]
fn numbers_without_bounds_are_refused_or_have_no_effect() {
    let refused = |initialize: &str| soon(|| failure(&algorithm(initialize, ""), &[])).message;
    assert!(refused("self.set_end_date(999999999, 1, 1)").contains("out of range"));
    assert!(refused("self.set_end_date(9000, 1, 1)").contains("outside the model's prices"));
    assert!(refused("self.set_start_date(1900, 1, 1)").contains("outside the model's prices"));
    assert!(refused("self.set_cash(1e300)").contains("1e12"));
    assert!(
        refused("self.set_end_date(datetime(2020, 1, 1) + timedelta(days=10 ** 9))")
            .contains("OverflowError")
    );
    assert!(refused("self.set_warm_up(10 ** 9)").contains("warm-up"));
    assert!(refused("for i in range(501):\n    self.add_equity(f'T{i}')").contains("at most 500"));
    let start =
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)\nself.add_equity('SPY')";
    for weight in [
        "float('nan')",
        "float('inf')",
        "1e300",
        "-1e300",
        "10 ** 400",
    ] {
        let report = soon(|| {
            run(&algorithm(
                start,
                &format!("self.set_holdings('SPY', {weight})"),
            ))
        });
        assert!(report.orders.is_empty(), "{weight}");
        assert!(
            report
                .logs
                .iter()
                .any(|line| line.contains("not read by the model")),
            "{weight}"
        );
    }
}

#[test]
fn more_than_the_account_may_hold_is_an_invalid_order() {
    let start =
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)\nself.add_equity('SPY')";
    let report = run(&algorithm(start, "self.set_holdings('SPY', 3)"));
    assert_eq!(report.orders.len(), 1);
    assert_eq!(report.orders[0]["status"], 7);
    assert_eq!(report.orders[0]["events"][0]["status"], "invalid");
    assert_eq!(report.statistics["Total Orders"], "1");
    assert_eq!(report.statistics["Net Profit"], "0.000%");
    assert!(report.days.iter().all(|day| day.holdings.is_empty()));
    // Twice the portfolio is allowed.
    let report = run(&algorithm(start, "self.set_holdings('SPY', 1.9)"));
    assert_eq!(report.orders[0]["status"], 3);
}

#[test]
fn a_position_that_eats_the_portfolio_is_closed() {
    let source = algorithm(
        "self.set_start_date(1998, 1, 1)\nself.set_end_date(2035, 12, 31)\n\
         for t in ['AAPL', 'SPY', 'IBM', 'KO']:\n    self.add_equity(t)",
        "for s in ['AAPL', 'SPY', 'IBM', 'KO']:\n    self.set_holdings(s, -0.49)",
    );
    let report = soon(|| run(&source));
    assert!(report.logs.iter().any(|line| line.contains("margin call")));
    assert!(report.days.last().unwrap().holdings.is_empty());
    assert!(
        report
            .charts
            .iter()
            .flat_map(|c| &c.series)
            .all(|s| s.samples.len() <= 4_000)
    );
    let finite = |value: &serde_json::Value| value.as_f64().is_none_or(f64::is_finite);
    let portfolio = report.total_performance["portfolioStatistics"]
        .as_object()
        .unwrap();
    assert!(
        portfolio
            .values()
            .all(|value| !value.is_null() && finite(value))
    );
}

#[test]
fn runs_beyond_the_bounds_are_refused() {
    let securities = "for i in range(500):\n    self.add_equity(f'T{i}')";
    let long = algorithm(securities, "self.set_holdings('T1', 1)");
    let error = soon(|| failure(&long, &[]));
    assert!(error.message.contains("security-days"), "{}", error.message);
    assert!(!error.in_initialize);
    let short = algorithm(
        &format!(
            "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)\nself.set_cash(10 ** 7)\n{securities}"
        ),
        "for i in range(500):\n    self.market_order(f'T{i}', 1)",
    );
    let report = soon(|| run(&short));
    assert_eq!(report.orders.len(), 500);
    let churning = algorithm(
        "for i in range(50):\n    t = f'T{i}'\n    self.add_equity(t)\n    self.sma(t, 1)\n    self.sma(t, 2)",
        "for i in range(50):\n    self.market_order(f'T{i}', 1)",
    );
    let error = soon(|| failure(&churning, &[]));
    assert!(error.message.contains("10000 orders"), "{}", error.message);
}

#[test]
fn sources_that_are_not_text_as_expected_are_compile_errors_or_read() {
    for source in [
        "\0",
        "\u{feff}\u{feff}",
        "class",
        "\\",
        "'''",
        "f'{'",
        "\t \tx",
        "if 1:",
        "é = 1\r\rx =",
    ] {
        let found = compile(&[("main.py", source)]);
        assert!(!found.errors.is_empty(), "{source:?}");
        assert!(try_run(&[("main.py", source)], &[]).is_err(), "{source:?}");
    }
    let crlf = algorithm("self.set_cash(7)", "").replace('\n', "\r\n");
    assert_eq!(run(&format!("\u{feff}{crlf}")).days[0].cash, 7.0);
}

/// A piece of a source: a line of a real one, or what people and fuzzers put between.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> = CROSSOVER.lines().map(|line| format!("{line}\n")).collect();
    let others = [
        "        x = self.sma(self._symbol, -1)\n",
        "        return\n",
        "    @property\n",
        "        self.x[0] = yield\n",
        "        [a for a in self.b if a]\n",
        "(",
        "]",
        "'''",
        "\\",
        "        a, *b = self.x, 1\n",
        "        del self.x\n",
        "\t",
        "        self._symbol = None\n",
        "        super().initialize()\n",
        "        self.set_cash(*self.x, **{})\n",
    ];
    prop_oneof![
        6 => prop::sample::select(lines),
        1 => "\\PC{0,12}",
        1 => prop::sample::select(others.to_vec()).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_mixture_of_lines_makes_the_model_panic(
        pieces in prop::collection::vec(piece(), 0..40),
        cut in 0..CROSSOVER.lines().count(),
    ) {
        let head: String = CROSSOVER.lines().take(cut).map(|line| format!("{line}\n")).collect();
        let source = format!("{head}{}", pieces.concat());
        let compiled = compile(&[("main.py", &source)]);
        let ran = try_run(&[("main.py", &source)], &[("fast", "5")]);
        // What does not compile does not run, and what runs has its numbers.
        prop_assert!(compiled.errors.is_empty() || ran.is_err());
        if let Ok(report) = ran {
            let orders = report.orders.len().to_string();
            prop_assert_eq!(report.statistics["Total Orders"].as_str(), Some(orders.as_str()));
        }
    }

    #[test]
    fn no_parameter_value_makes_the_model_panic(
        value in "\\PC{0,20}|-?[0-9]{1,20}(\\.[0-9]{1,5})?|nan|inf",
    ) {
        let text = algorithm(
            "n = self.get_parameter('n')\nself.add_equity('SPY')\nself.set_start_date(2020, 1, 1)\n\
             self.set_end_date(2020, 3, 1)\nself.w = float(n)\nself.sma('SPY', int(self.w))",
            "self.set_holdings('SPY', self.w)",
        );
        let number = value.trim().parse::<f64>();
        let ran = try_run(&[("main.py", &text)], &[("n", &value)]);
        prop_assert!(number.is_ok() || ran.is_err());
        // With a default of its type, what is no number leaves the default.
        let typed = text.replace("'n')", "'n', 1.5)");
        if number.is_err() {
            prop_assert!(try_run(&[("main.py", &typed)], &[("n", &value)]).is_ok());
        }
    }
}
