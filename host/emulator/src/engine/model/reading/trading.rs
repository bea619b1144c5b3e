//! The part of LEAN's `QCAlgorithm` that trades: moving averages, and calls that open positions.
//!
//! Invariant: an average or an entry reaches the plan only with a number that was read; one whose
//! number is unknown is reported and left out.

use super::algorithm::{is_daily, is_resolution};
use super::calls::Call;
use super::reader::{Evaluated, MAX_ELEMENTS, Mode, Raise, Reader};
use super::value::Value;
use crate::engine::model::constants::{MAX_PERIOD, MAX_SHARES};
use crate::engine::model::plan::{Average, AverageKind, Entry, Size};

impl<'a> Reader<'a> {
    /// `self.sma(symbol, period, …)`, `self.ema(symbol, period, …)`
    pub(super) fn average(&mut self, kind: AverageKind, call: &Call<'a>) -> Evaluated<'a> {
        let path = &*call.path;
        let symbol = call.arguments.value(0, "symbol");
        let security = match self.security_of(&symbol) {
            Ok(security) => security,
            Err(ticker) => return self.not_subscribed(&ticker, path, call),
        };
        self.note_if_every_security(security, path, call);
        let mut all = call.arguments.all();
        if all.any(|value| is_resolution(value) && !is_daily(value)) {
            self.note("resolutions other than daily: all prices are daily");
        }
        let period = call.arguments.value(1, "period");
        self.new_average(kind, &period, security, call)
    }

    /// `SimpleMovingAverage(period)`, `SimpleMovingAverage(name, period)`
    pub(super) fn average_object(&mut self, kind: AverageKind, call: &Call<'a>) -> Evaluated<'a> {
        let first = call.arguments.value(0, "period");
        let period = match first {
            Value::Text(_) => call.arguments.value(1, "period"),
            first => first,
        };
        self.new_average(kind, &period, None, call)
    }

    fn new_average(
        &mut self,
        kind: AverageKind,
        period: &Value<'a>,
        security: Option<usize>,
        call: &Call<'a>,
    ) -> Evaluated<'a> {
        if period.is_unknown() {
            return self.unread("a moving average of unknown period", call);
        }
        let Some(number) = period.integer() else {
            let message = format!(
                "a moving average's period is an int, not '{}'",
                period.type_name()
            );
            return self.refuse("TypeError", message);
        };
        let days = u32::try_from(number).ok();
        let Some(period) = days.filter(|days| (1..=MAX_PERIOD).contains(days)) else {
            let message =
                format!("a moving average's period is 1 to {MAX_PERIOD} days, not {number}");
            return self.refuse("ArgumentException", message);
        };
        let average = Average {
            kind,
            period,
            security,
        };
        // A survey may evaluate the same call twice; the search costs steps.
        self.step(self.plan.averages.len() / 16)?;
        let mut averages = self.plan.averages.iter();
        if self.mode == Mode::Survey
            && let Some(known) = averages.position(|known| *known == average)
        {
            return Ok(Value::Average(known));
        }
        self.check_length(self.plan.averages.len() + 1)?;
        self.plan.averages.push(average);
        Ok(Value::Average(self.plan.averages.len() - 1))
    }

    /// `self.register_indicator(symbol, indicator, …)` sets the security of an average.
    pub(super) fn register_indicator(&mut self, call: &Call<'a>) {
        let security = self.security_of(&call.arguments.value(0, "symbol"));
        if let (Ok(Some(security)), Value::Average(average)) =
            (security, call.arguments.value(1, "indicator"))
            && let Some(average) = self.plan.averages.get_mut(average)
        {
            average.security = Some(security);
        }
    }

    /// `self.set_holdings(symbol, weight)`; its form with a list of `PortfolioTarget`s was read
    /// when those were made.
    pub(super) fn set_holdings(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let targets = matches!(
            call.arguments.value(0, "symbol"),
            Value::List(_) | Value::Unknown
        );
        if targets && call.arguments.get(1, "percentage").is_none() {
            return Ok(Value::None);
        }
        self.trade_weight(call)
    }

    /// A call with a symbol and a share of the portfolio.
    pub(super) fn trade_weight(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let path = &*call.path;
        let name = match path {
            "set_holdings" => "percentage",
            "PortfolioTarget" => "percent",
            _ => "target",
        };
        match self.amount(path, call, &call.arguments.value(1, name))? {
            Some(weight) => self.enter(path, call, Size::Weight(weight)),
            None => Ok(Value::Unknown),
        }
    }

    /// A call with a symbol and a number of shares.
    pub(super) fn trade_shares(&mut self, call: &Call<'a>, sign: f64) -> Evaluated<'a> {
        match self.amount("the order", call, &call.arguments.value(1, "quantity"))? {
            Some(shares) => {
                let shares = libm::trunc(shares * sign);
                self.enter("the order", call, Size::Shares(shares))
            }
            None => Ok(Value::Unknown),
        }
    }

    /// The number of a trade, within the model's bounds. `None` where it is not known or says to
    /// leave the position.
    fn amount(
        &mut self,
        path: &str,
        call: &Call<'a>,
        value: &Value<'a>,
    ) -> Result<Option<f64>, Raise> {
        match value.number() {
            Some(0.0) => Ok(None),
            Some(amount) if amount.is_finite() && amount.abs() <= MAX_SHARES => Ok(Some(amount)),
            Some(amount) => {
                self.note_at(&format!("{path} with the amount {amount}"), call);
                Ok(None)
            }
            None if self.mode == Mode::Run && !value.is_unknown() => {
                let message = format!("{path} needs a number, not '{}'", value.type_name());
                self.refuse("TypeError", message).map(|_| None)
            }
            None => {
                self.note_at(&format!("the amount of {path}"), call);
                Ok(None)
            }
        }
    }

    /// LEAN refuses a ticker that was not subscribed to. If the reader may have missed
    /// subscriptions, and in a survey, it only reports the ticker.
    fn not_subscribed(&mut self, ticker: &str, path: &str, call: &Call<'a>) -> Evaluated<'a> {
        if self.mode == Mode::Run && !self.missed_subscription {
            let message = format!("{ticker} is not subscribed to; add it before {path}");
            return self.refuse("ArgumentException", message);
        }
        let what = format!("{path} of {ticker}, whose subscription was not read,");
        self.unread(&what, call)
    }

    /// Reports a symbol that could not be read and stands for every security.
    fn note_if_every_security(&mut self, security: Option<usize>, path: &str, call: &Call<'a>) {
        if security.is_none() {
            let what = format!("the symbol of {path}, taken for every security,");
            self.note_at(&what, call);
        }
    }

    fn enter(&mut self, path: &str, call: &Call<'a>, size: Size) -> Evaluated<'a> {
        let security = match self.security_of(&call.arguments.value(0, "symbol")) {
            Ok(security) => security,
            Err(ticker) if self.mode == Mode::Run => {
                let message = format!("{ticker} is not subscribed to; add it before {path}");
                return self.refuse("ArgumentException", message);
            }
            Err(ticker) => {
                let what = format!("{path} of {ticker}, which is not subscribed to,");
                return self.unread(&what, call);
            }
        };
        self.note_if_every_security(security, path, call);
        let entry = Entry { security, size };
        if !self.plan.entries.contains(&entry) && self.plan.entries.len() < MAX_ELEMENTS {
            self.step(self.plan.entries.len() / 16)?;
            self.plan.entries.push(entry);
        }
        Ok(Value::Unknown)
    }
}
