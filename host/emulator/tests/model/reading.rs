//! What the model reads from sources as people write them, and what it says of the rest.

use qchost_emulator::engine::model::Model;
use qchost_emulator::engine::{Engine as _, Job, Language};

use crate::{CROSSOVER, algorithm, compile, decisions, failure, files, run, run_with, try_run};

#[test]
fn a_syntax_error_is_a_compile_error_with_its_place() {
    let found = compile(&[(
        "main.py",
        "class A(QCAlgorithm):\n    def initialize(self:\n        pass\n",
    )]);
    let first = &found.errors[0];
    assert_eq!((first.file.as_str(), first.line), ("main.py", 2));
    assert!(first.column > 1);
    assert!(
        first.message.starts_with("SyntaxError: "),
        "{}",
        first.message
    );
    // In any file, not only the one that runs.
    let found = compile(&[("main.py", CROSSOVER), ("lib/other.py", "x = 1\ny = = 2\n")]);
    assert_eq!(found.errors.len(), 1);
    assert_eq!(
        (found.errors[0].file.as_str(), found.errors[0].line),
        ("lib/other.py", 2)
    );
    // Syntax newer than the Python that LEAN runs.
    let found = compile(&[("main.py", &format!("type X = int\n{CROSSOVER}"))]);
    assert_eq!(found.errors[0].line, 1);
    let error = try_run(&[("main.py", "def f(:\n")], &[]).unwrap_err();
    assert!(error.stacktrace.contains("line 1"), "{}", error.stacktrace);
}

#[test]
fn a_project_without_an_algorithm_does_not_compile() {
    let errors = |sources: &[(&str, &str)]| {
        compile(sources)
            .errors
            .into_iter()
            .map(|e| e.message)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(errors(&[("other.py", CROSSOVER)]).contains("no main.py"));
    assert!(errors(&[("main.py", "x = 1\n")]).contains("QCAlgorithm"));
    assert!(errors(&[]).contains("no main.py"));
    assert_eq!(
        errors(&[("main.py", CROSSOVER), ("research.ipynb", "{")]),
        ""
    );
    // Through a class of another file.
    let base = ("base.py", "class Base(QCAlgorithm):\n    pass\n");
    assert_eq!(
        errors(&[
            (
                "main.py",
                "from base import Base\nclass A(Base):\n    pass\n"
            ),
            base
        ]),
        ""
    );
    // In a circle.
    assert!(errors(&[("main.py", "class A(B): pass\nclass B(A): pass\n")]).contains("QCAlgorithm"));
}

#[test]
fn compiling_lists_the_parameters_with_their_defaults() {
    let found = compile(&[(
        "main.py",
        &algorithm(
            "a = self.get_parameter('one', 1 + 2)\nb = int(self.GetParameter(\"two\"))",
            "",
        ),
    )]);
    let listed: Vec<(u32, &str, Option<&str>)> = found
        .parameters
        .iter()
        .map(|p| (p.line, p.name.as_str(), p.default.as_deref()))
        .collect();
    assert_eq!(listed, [(6, "one", Some("1 + 2")), (7, "two", None)]);
}

#[test]
fn c_sharp_compiles_without_a_check_and_its_backtests_say_that_they_cannot_run_here() {
    let sources = files(&[("Main.cs", "public class A {\n  void F( {\n}")]);
    let compiled = Model.compile(Language::CSharp, &sources);
    assert!(compiled.errors.is_empty());
    let error = Model
        .run(&Job {
            language: Language::CSharp,
            files: sources,
            parameters: Default::default(),
        })
        .unwrap_err();
    assert!(error.message.contains("its backtests cannot run here"));
    assert_eq!(compiled.warnings[0].message, error.message);
    assert!(!error.in_initialize);
}

/// The same strategy as [`CROSSOVER`], written in other ways.
#[test]
fn the_same_strategy_in_other_words_gives_the_same_orders() {
    let expected = run(CROSSOVER).orders;
    let on_data = "    def OnData(self, data):\n        if self.fast > self.slow:\n            \
                   self.SetHoldings(self.ticker, 1.0)\n        else:\n            self.Liquidate()\n";
    let head = "from AlgorithmImports import *\nfrom datetime import datetime, timedelta\n";
    let variants = [
        // Former names, positional dates, a literal ticker.
        format!(
            "{head}class A(QCAlgorithm):\n    def Initialize(self):\n        self.SetStartDate(2015, 1, 1)\n\
             \x20       self.SetEndDate(2019, 12, 31)\n        self.SetCash(100000)\n        self.ticker = 'SPY'\n\
             \x20       self.AddEquity(self.ticker, Resolution.Daily)\n\
             \x20       self.fast = self.SMA('SPY', 20, Resolution.Daily)\n\
             \x20       self.slow = self.SMA('SPY', 100)\n{on_data}"
        ),
        // Dates as values, parameters as texts, constants of class and module.
        format!(
            "{head}CASH = 50_000 * 2\nclass A(QCAlgorithm):\n    ticker = 'spy'\n    SPAN = 5 * 20\n\
             \x20   def initialize(self):\n        start = datetime(2014, 12, 31) + timedelta(days=1)\n\
             \x20       self.set_start_date(start)\n        self.set_end_date(datetime.strptime('2019-12-31', '%Y-%m-%d'))\n\
             \x20       self.set_cash('USD', CASH)\n        equity = self.add_equity(self.ticker, Resolution.DAILY)\n\
             \x20       fast = self.get_parameter('fast')\n        fast = 20 if fast is None else int(fast)\n\
             \x20       self.fast, self.slow = [self.sma(equity.symbol, n) for n in (fast, self.SPAN)]\n{on_data}"
        ),
        // Objects, helper methods, a schedule instead of on_data.
        format!(
            "{head}class Signals:\n    def __init__(self, algorithm, symbol, *, fast=20, slow=100):\n\
             \x20       self.pair = algorithm.sma(symbol, fast), SimpleMovingAverage(slow)\n\
             \x20       algorithm.register_indicator(symbol, self.pair[1], Resolution.DAILY)\n\
             class A(QCAlgorithm):\n    def initialize(self):\n        self._dates()\n        self.set_cash(1e5)\n\
             \x20       self.signals = {{}}\n        for ticker in ['SPY']:\n\
             \x20           symbol = self.add_equity(ticker, Resolution.DAILY).symbol\n\
             \x20           self.signals[symbol] = Signals(self, symbol)\n\
             \x20       self.schedule.on(self.date_rules.every_day(), self.time_rules.noon, self.rebalance)\n\
             \x20   def _dates(self):\n        self.set_start_date(2015, 1, 1)\n        self.set_end_date(2019, 12, 31)\n\
             \x20   def rebalance(self):\n        for symbol, signals in self.signals.items():\n\
             \x20           self.set_holdings([PortfolioTarget(symbol, 1 / len(self.signals))])\n"
        ),
    ];
    for source in variants {
        assert_eq!(run(&source).orders, expected, "{source}");
    }
}

#[test]
fn several_files_are_one_project() {
    let main = "from AlgorithmImports import *\nfrom settings import FAST, SLOW as slow\nimport lib.rules as rules\n\
                class A(rules.Base):\n    def initialize(self):\n        super().initialize()\n\
                \x20       self.a = self.sma(self.spy, FAST)\n        self.b = self.sma(self.spy, slow)\n";
    let base = "from AlgorithmImports import *\nclass Base(QCAlgorithm):\n    def initialize(self):\n\
                \x20       self.set_start_date(2015, 1, 1)\n        self.set_end_date(2019, 12, 31)\n\
                \x20       self.spy = self.add_equity('SPY', Resolution.DAILY).symbol\n\
                \x20   def on_data(self, data):\n        self.set_holdings(self.spy, 1)\n";
    let project = [
        ("main.py", main),
        ("settings.py", "FAST = 20\nSLOW = 100\n"),
        ("lib/rules.py", base),
    ];
    assert_eq!(
        try_run(&project, &[]).unwrap().orders,
        run(CROSSOVER).orders
    );
}

#[test]
fn symbols_come_from_loops_lists_and_constants() {
    let report = run(&algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 3, 31)\n\
         tickers = ['AAA', 'BBB'] + ['CCC']\nself.s = [self.add_equity(t, Resolution.DAILY).symbol for t in tickers]\n\
         self.s.append(self.add_crypto('BTCUSD', Resolution.DAILY).symbol)",
        "for s in self.s:\n    self.set_holdings(s, 0.9 / len(self.s))",
    ));
    let mut traded: Vec<String> = decisions(&report)
        .into_iter()
        .map(|(_, symbol, _)| symbol)
        .collect();
    traded.sort();
    assert_eq!(traded, ["AAA", "BBB", "BTCUSD", "CCC"]);
}

#[test]
fn without_averages_the_first_day_buys_and_nothing_is_sold() {
    let source = algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 12, 31)\nself.add_equity('SPY', Resolution.DAILY)",
        "if not self.portfolio.invested:\n    self.market_order('SPY', 25)",
    );
    let report = run(&source);
    assert_eq!(report.orders.len(), 1);
    assert_eq!(report.orders[0]["quantity"], 25.0);
    assert_eq!(report.orders[0]["time"], "2020-01-02T21:00:00Z");
    assert_eq!(report.orders[0]["lastFillTime"], "2020-01-03T14:30:00Z");
    assert_eq!(report.days.last().unwrap().holdings[0].quantity, 25.0);
}

#[test]
fn a_single_average_is_compared_with_the_close() {
    let source = CROSSOVER.replace("self._fast = self.sma", "unused = (lambda *a: 0)");
    let report = run(&source);
    assert!(
        report
            .logs
            .iter()
            .any(|l| l.contains("while the close of SPY is above SMA(100)"))
    );
    assert_ne!(report.orders, run(CROSSOVER).orders);
}

#[test]
fn what_is_not_read_is_said_with_its_line() {
    let report = run(&algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 6, 30)\nself.add_equity('SPY', Resolution.DAILY)\n\
         self.r = self.rsi('SPY', 14)\nif self.object_store.contains_key('x'):\n    self.set_cash(5)\n\
         self.set_start_date(datetime.now())\nself.debug(f\"ready {1 + 1}\")",
        "self.set_holdings('SPY', self.r.current.value)\nself.limit_order('SPY', 1, 2)",
    ));
    let logged = |text: &str| {
        assert!(
            report.logs.iter().any(|l| l.contains(text)),
            "{text}: {:#?}",
            report.logs
        )
    };
    logged("not read by the model: rsi at main.py:9");
    logged(
        "not read by the model: the condition, none of whose branches is followed, at main.py:10",
    );
    logged("not read by the model: set_start_date at main.py:12");
    logged("not read by the model: the amount of set_holdings at main.py:16");
    logged("not read by the model: limit_order outside initialize at main.py:17");
    logged("2020-01-02 00:00:00 ready 2");
    logged("a model, not LEAN");
    assert!(report.orders.is_empty());
}

#[test]
fn what_an_unread_branch_may_have_set_is_unknown_and_not_guessed() {
    let report = run(&algorithm(
        "self.set_start_date(2020, 1, 1)\nself.set_end_date(2020, 6, 30)\nself.add_equity('SPY', Resolution.DAILY)\n\
         self.w = 1\nif self.object_store.contains_key('x'):\n    self.w = 0.1",
        "self.set_holdings('SPY', self.w)",
    ));
    assert!(report.orders.is_empty());
    assert!(
        report
            .logs
            .iter()
            .any(|l| l.contains("the amount of set_holdings"))
    );
}

#[test]
fn an_exception_in_initialize_fails_the_backtest_with_a_stack_trace() {
    let source = algorithm("self._set_up()", "").replace(
        "    def on_data",
        "    def _set_up(self):\n        self.n = int(self.get_parameter('n'))\n    def on_data",
    );
    let error = failure(&source, &[]);
    assert!(error.in_initialize);
    assert!(
        error.message.contains("TypeError: int() argument"),
        "{}",
        error.message
    );
    assert!(
        error.message.contains("main.py, line 8"),
        "{}",
        error.message
    );
    assert_eq!(
        error.stacktrace.lines().collect::<Vec<_>>()[1..5],
        [
            "  File \"main.py\", line 6, in initialize",
            "    self._set_up()",
            "  File \"main.py\", line 8, in _set_up",
            "    self.n = int(self.get_parameter('n'))",
        ]
    );
    let not_a_number = failure(&source, &[("n", "abc")]);
    assert!(
        not_a_number
            .message
            .contains("ValueError: invalid literal for int() with base 10: 'abc'")
    );
    assert!(
        failure(&source, &[("n", "2.5")])
            .message
            .contains("ValueError")
    );
    assert!(try_run(&[("main.py", &source)], &[("n", "12")]).is_ok());
    let float = algorithm("w = float(self.get_parameter('w', 'x'))", "");
    assert!(
        failure(&float, &[])
            .message
            .contains("could not convert string to float: 'x'")
    );
    let handled = algorithm(
        "try:\n    self.n = int(self.get_parameter('n'))\nexcept TypeError:\n    self.n = 5\n\
         if self.n != 5:\n    raise ValueError('no')",
        "",
    );
    run(&handled);
    assert!(
        failure(&handled, &[("n", "6")])
            .message
            .contains("ValueError: no")
    );
}

#[test]
fn a_value_of_the_wrong_type_leaves_a_typed_default_and_says_so() {
    let report = run_with(CROSSOVER, &[("fast", "many")]);
    assert_eq!(report.orders, run(CROSSOVER).orders);
    assert_eq!(report.parameters["fast"], "20");
    assert!(
        report
            .logs
            .iter()
            .any(|l| l.contains("\"many\", which is not an integer"))
    );
}

#[test]
fn what_lean_refuses_is_refused() {
    let refused = |initialize: &str, message: &str| {
        let error = failure(&algorithm(initialize, ""), &[]);
        assert!(error.in_initialize);
        assert!(
            error.message.contains(message),
            "{initialize}: {}",
            error.message
        );
        assert!(
            error.message.contains("main.py, line"),
            "{initialize}: {}",
            error.message
        );
    };
    refused("self.set_start_date(2020, 13, 1)", "month must be in 1..12");
    refused("self.set_start_date(2021, 2, 29)", "day is out of range");
    refused("self.set_end_date(0, 1, 1)", "year 0 is out of range");
    refused("self.set_start_date('2020', 1, 1)", "whole numbers");
    refused(
        "self.set_start_date(2020, 1, 2)\nself.set_end_date(2020, 1, 1)",
        "before the start date",
    );
    refused("self.set_cash(0)", "above 0");
    refused("self.set_cash(-5)", "above 0");
    refused("self.set_cash(float('nan'))", "above 0");
    refused("self.set_cash(float('inf'))", "above 0");
    refused("self.set_cash(None)", "needs a number");
    refused("self.add_equity('')", "is not a ticker");
    refused("self.add_equity(5)", "a ticker is a str");
    refused("self.sma('SPY', 10)", "SPY is not subscribed");
    refused("self.add_equity('SPY')\nself.sma('SPY', 0)", "1 to 10000");
    refused(
        "self.add_equity('SPY')\nself.sma('SPY', 10 ** 12)",
        "1 to 10000",
    );
    refused("self.add_equity('SPY')\nself.sma('SPY', 2.5)", "is an int");
    refused("self.set_warm_up(-1)", "0 to 20000");
    refused("x = 1 / 0", "ZeroDivisionError");
    refused("x = [1][3]", "IndexError");
    refused("x = {}['k']", "KeyError");
    refused("x = None.y", "'NoneType' object has no attribute 'y'");
    refused("for i in 5:\n    pass", "not iterable");
    refused("assert 1 > 2", "AssertionError");
}
