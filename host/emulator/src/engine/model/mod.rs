//! The emulator's engine: a documented, deterministic model. It is not LEAN.
//!
//! A backtest here is a simulation of one trading rule on synthetic prices. What the source asks
//! for (dates, cash, securities, parameters, averages, weights) is read from it; the statements of
//! `on_data` are *not* executed. So the results say nothing about a market and little about a
//! strategy, but they depend on everything that a user would change, in a way that can be predicted
//! from this page, and the same project gives the same numbers everywhere.
//!
//! # What is read
//!
//! Every `*.py` file is parsed (Python 3.11); a syntax error anywhere is a compile error, as is a
//! project without a class in `main.py` that derives from `QCAlgorithm` (the last such class is the
//! algorithm). Names may be written as today (`set_start_date`) or as formerly (`SetStartDate`).
//!
//! `__init__` and `initialize` are run: assignments, arithmetic, texts, lists, dictionaries,
//! comprehensions, loops over known values, decided conditions, `try`, the project's own functions,
//! classes and modules, `datetime` and `timedelta`, `int`, `float`, `len`, `range` and their like.
//! An exception there fails the backtest with a stack trace. All other methods of the class, and
//! functions handed over to run later, are surveyed: each branch is walked once, with the attributes
//! that `initialize` left, only to find the calls marked † below. Of LEAN's interface the model
//! reads
//!
//! - `get_parameter(name[, default])` †: the backtest's value, else the default, else `None`. With an
//!   `int` or `float` default, a value that is not one leaves the default, as in LEAN, and the log
//!   says so; without, the value is a text. A value under a name that the source does not ask for
//!   has no effect.
//! - `set_start_date`, `set_end_date`: within [1998-01-01, 2035-12-31]. Unset, they are 1998-01-01
//!   and 2025-12-31.
//! - `set_cash`: US dollars, above 0 and up to 1e12. Unset, 100 000.
//! - `add_equity`, `add_forex`, `add_crypto`, `add_future`, `add_cfd`, `add_index`,
//!   `add_crypto_future`, `add_security`: at most 500, each by its ticker. All have daily prices.
//! - `sma(symbol, period)`, `ema(symbol, period)` †, and `SimpleMovingAverage(period)`,
//!   `ExponentialMovingAverage(period)` †, whose symbol `register_indicator` may give. A period is a
//!   whole number from 1 to 10 000.
//! - `set_holdings(symbol, weight)` †, `PortfolioTarget(symbol, weight)` †,
//!   `calculate_order_quantity(symbol, weight)` †, and with numbers of shares `market_order`,
//!   `market_on_open_order`, `market_on_close_order`, `order`, `buy`, `sell` †.
//! - `set_warm_up(bars)`, `set_warm_up(timedelta)`; `settings.automatic_indicator_warm_up` and
//!   `warm_up_indicator` warm every average up. Unset, an average is ready only when it has seen its
//!   period in the backtest.
//! - `set_benchmark(ticker)`. Unset, `SPY`.
//! - `log`, `debug`, `error`, `print` in `initialize`.
//!
//! Everything else of LEAN's interface that `initialize` calls, and every number, symbol or
//! condition that could not be read, is named in the log with its line (`not read by the model: …`)
//! and has no effect. A symbol that could not be read stands for every security.
//!
//! # The rule
//!
//! A security is traded if a call that opens a position in it was read. Its long size is the first
//! positive amount in source order, its short size the first negative weight; a negative number of
//! shares counts only without a long size. The signal of a security is a crossover of its averages:
//! of all that were read for it, *fast* is the one with the shortest period and *slow* the one with
//! the longest, each of its own kind (`sma` or `ema`); with a single average, *fast* is the close.
//! A security without averages follows the signal of the first security that has some; if none
//! has, it is bought and held. While fast is above slow the position is the long size (none, if there
//! is only a short one); otherwise it is the short size (none, if there is only a long one).
//!
//! After the close of each day but the last, where the signal is new or has changed, the position
//! is brought to its size by one market-on-open order: `trunc(weight · equity · 0.9975 / close)`
//! shares (a quarter of a percent stays free, as in LEAN), or the given number of shares. Between
//! changes nothing is rebalanced. An order that would take the sum of all positions above twice the
//! equity is invalid. Below 25 % equity in the positions everything is sold at the next open, until
//! signals change again. Fills are whole, at the next open, for 0.005 dollars a share, at most 0.5 % of
//! the value, at least one dollar. Cash earns and costs no interest.
//!
//! # Prices, days and statistics
//!
//! The prices of a ticker are a random walk that is seeded by the ticker alone and begins with the
//! first trading day of 1998: another window shows the same prices on the same days. A day's return
//! is a drift of the ticker, plus a drift that holds for 40 to 199 days and then changes, plus the
//! ticker's share (0.5 to 1.5) of one market that all tickers have in common, plus noise of its own
//! (0.4 % to 1.6 % a day). `market.rs` has the exact formula and the generator.
//!
//! Trading days are those of the New York Stock Exchange, for every kind of security
//! (`calendar.rs`). Statistics are LEAN's, with 252 days a year and a risk-free rate of zero
//! (`statistics.rs`): returns run from close to close; a trade is closed
//! first in, first out, and wins if it gained after fees; its adverse and favourable excursions are
//! those of opens and closes. The capacity is one percent of the daily dollar volume of the least
//! liquid security traded. Insights are the changes of the signals.
//!
//! # Bounds
//!
//! Sources beyond 1 MiB a file, nested more than 1 000 tokens deep, or that take more than 300 000
//! steps to read, runs of more than 500 000 security-days or 10 000 orders: each is an error that
//! says so.
//!
//! C# is not read: a project compiles without a check and with a warning that says so, and its
//! backtests fail with the same sentence.

mod calendar;
mod charts;
mod constants;
mod market;
mod numbers;
mod plan;
mod portfolio;
mod reading;
mod record;
mod report;
mod rule;
mod simulation;
mod source;
mod statistics;

use self::constants::NAME;
use crate::engine::{
    Compilation, Diagnostic, Engine, Job, Language, Report, RuntimeError, SourceFile,
};

/// What a C# project is told when it is compiled, as a warning, and when it is run, as the error.
const CSHARP: &str = "the emulator cannot run C#: the project compiles without a check, and its \
                      backtests cannot run here";

/// Reading recurses as deep as sources nest; this is enough for the deepest that is read, in a
/// build without optimisation, regardless of what the calling thread has left. It is reserved, not used.
const STACK_BYTES: usize = 64 << 20;

/// The model as an engine. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Model;

impl Engine for Model {
    fn name(&self) -> &'static str {
        NAME
    }

    fn compile(&self, language: Language, files: &[SourceFile]) -> Compilation {
        match language {
            Language::CSharp => Compilation {
                warnings: vec![Diagnostic::new("Main.cs", CSHARP)],
                ..Compilation::default()
            },
            Language::Python => stacker::grow(STACK_BYTES, || compile_python(files)),
        }
    }

    fn run(&self, job: &Job) -> Result<Report, RuntimeError> {
        if job.language == Language::CSharp {
            return Err(failed(CSHARP.to_owned()));
        }
        let plan = stacker::grow(STACK_BYTES, || {
            let (files, errors) = source::parse(&job.files);
            if let Some(error) = errors.first() {
                return Err(does_not_compile(error));
            }
            let algorithm = source::algorithm(&files).map_err(|error| does_not_compile(&error))?;
            reading::read(&files, algorithm, &job.parameters)
        })?;
        let run = simulation::run(&plan).map_err(failed)?;
        Ok(report::report(&plan, run))
    }
}

fn compile_python(files: &[SourceFile]) -> Compilation {
    let (parsed, mut errors) = source::parse(files);
    // A main.py with a syntax error is not one without an algorithm.
    if errors.is_empty()
        && let Err(missing) = source::algorithm(&parsed)
    {
        errors.push(missing);
    }
    Compilation {
        errors,
        warnings: Vec::new(),
        parameters: source::parameters(&parsed),
    }
}

fn does_not_compile(error: &Diagnostic) -> RuntimeError {
    RuntimeError {
        message: error.message.clone(),
        stacktrace: format!(
            "  File \"{}\", line {}\n{}",
            error.file, error.line, error.message
        ),
        in_initialize: true,
    }
}

/// An error that belongs to no line of the source.
fn failed(message: String) -> RuntimeError {
    RuntimeError {
        stacktrace: message.clone(),
        message,
        in_initialize: false,
    }
}
