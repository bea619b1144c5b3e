//! LEAN's `QCAlgorithm`: what sets a backtest up (dates, cash, parameters, securities, benchmark,
//! warm-up and logs), and what trades (moving averages, and calls that open positions).
//!
//! Invariant: what is refused here is what LEAN refuses (a zero period, a date that does not
//! exist, no cash) or what the model has bounds for; the message says which. An average or an entry
//! reaches the plan only with a number that was read; one whose number is unknown is reported and left
//! out.

use std::rc::Rc;

use jiff::civil::Date;

use super::builtins::{date, parameter_text};
use super::calls::Call;
use super::reader::{Evaluated, MAX_ELEMENTS, Mode, Raise, Reader};
use super::value::{Refused, Value};
use crate::engine::model::constants::{
    FIRST_DAY, LAST_DAY, MAX_CASH, MAX_PERIOD, MAX_SECURITIES, MAX_SHARES, MAX_WARM_UP,
};
use crate::engine::model::numbers::whole;
use crate::engine::model::plan::{
    Average, AverageKind, Entry, Security, SecurityKind, Size, WarmUp,
};
use crate::text::snake;

impl<'a> Reader<'a> {
    /// `self.name` that the project does not define.
    pub(super) fn api_attribute(&self, name: &str) -> Value<'a> {
        let moment = |date: Date| Value::Moment(date.to_datetime(jiff::civil::Time::midnight()));
        match snake(name).as_str() {
            "live_mode" => Value::Bool(false),
            "start_date" => moment(self.plan.start),
            "end_date" => moment(self.plan.end),
            name => Value::Api(Rc::from(name)),
        }
    }

    /// `self.settings.x = value` and similar. Returns whether the plan depends on it.
    pub(super) fn set_api_attribute(&mut self, path: &str, value: &Value<'a>) -> bool {
        match snake(path).as_str() {
            "settings.automatic_indicator_warm_up" | "enable_automatic_indicator_warm_up" => {
                if value.truth() == Some(true) {
                    self.plan.warm_up = WarmUp::Full;
                }
                true
            }
            "universe_settings.resolution" => {
                self.default_resolution_daily = is_daily(value);
                true
            }
            _ => false,
        }
    }

    /// Calls a method of the algorithm that the project does not define.
    pub(super) fn call_api(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let file = self.file();
        if self.mode == Mode::Run {
            self.ran.insert((file, call.node.range_start));
        }
        let ran = self.ran.contains(&(file, call.node.range_start));
        let path = &*call.path;
        match path {
            "get_parameter" => return self.get_parameter(call),
            "set_holdings" => return self.set_holdings(call),
            "calculate_order_quantity" => return self.trade_weight(call),
            "market_order" | "market_on_open_order" | "market_on_close_order" | "order" | "buy" => {
                return self.trade_shares(call, 1.0);
            }
            "sell" => return self.trade_shares(call, -1.0),
            // The rule decides when a position is left.
            "liquidate" => return Ok(Value::Unknown),
            "sma" => return self.average(AverageKind::Simple, call),
            "ema" => return self.average(AverageKind::Exponential, call),
            _ => {}
        }
        if self.mode == Mode::Survey {
            if !ran && changes_the_plan(path) {
                self.note_at(&format!("{path} outside initialize"), call);
            }
            return Ok(Value::Unknown);
        }
        let kind = path.strip_prefix("add_").and_then(|kind| kind.parse().ok());
        if let Some(kind) = kind {
            return self.add_security(kind, &call.arguments.value(0, "ticker"), call);
        }
        match path {
            "set_start_date" | "set_end_date" => return self.set_date(call),
            "set_cash" => return self.set_cash(call),
            "add_security" => return self.add_by_type(call),
            "set_benchmark" => self.set_benchmark(call),
            "set_warm_up" | "set_warmup" => return self.set_warm_up(call),
            "warm_up_indicator" => self.plan.warm_up = WarmUp::Full,
            "register_indicator" => self.register_indicator(call),
            "log" | "debug" | "error" => self.log_message(&call.arguments.value(0, "message")),
            _ => {
                self.missed_subscription |= path.starts_with("add_") || path.contains("universe");
                self.note_at(path, call);
            }
        }
        Ok(Value::Unknown)
    }

    /// What the algorithm logs while it is initialised.
    pub(super) fn log_message(&mut self, message: &Value<'a>) {
        if self.mode == Mode::Run
            && let Some(message) = self.display(message)
        {
            self.log(message);
        }
    }

    /// `get_parameter(name[, default])`: an override wins. As in LEAN, an override that is not of
    /// its default's type leaves the default.
    fn get_parameter(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let name = call.arguments.value(0, "name");
        let Value::Text(name) = name else {
            if !name.is_unknown() {
                let message = format!("a parameter's name is a str, not '{}'", name.type_name());
                return self.refuse("TypeError", message);
            }
            return self.unread("get_parameter with an unknown name", call);
        };
        let default = call.arguments.value(1, "default_value");
        let given = self.overrides.get(&*name).cloned();
        let (read, wanted) = match (&given, &default) {
            (None, _) => (None, ""),
            (Some(given), Value::Int(_)) => {
                let int = given.trim().parse::<i32>().ok();
                (int.map(|int| Value::Int(int.into())), "an integer")
            }
            (Some(given), Value::Float(_)) => {
                (given.trim().parse().ok().map(Value::Float), "a number")
            }
            (Some(given), _) => (Some(Value::text(given)), ""),
        };
        if let (Some(given), None) = (given, &read) {
            let shown = parameter_text(&default).unwrap_or_default();
            let given: String = given.chars().take(100).collect();
            self.log(format!(
                "parameter {name:?} is {given:?}, which is not {wanted}: its default {shown} is \
                 used, as in LEAN"
            ));
        }
        let value = read.unwrap_or(default);
        if let Some(text) = parameter_text(&value) {
            self.plan.parameters.insert(name.to_string(), text);
        }
        Ok(value)
    }

    /// `set_start_date` and `set_end_date`, with year, month and day or with a date.
    fn set_date(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let path = &*call.path;
        let parts = [
            call.arguments.value(0, "year"),
            call.arguments.value(1, "month"),
            call.arguments.value(2, "day"),
        ];
        let day = match &parts {
            [Value::Moment(at), ..] => at.date(),
            [Value::None, ..] => match call.arguments.keywords.first() {
                Some((_, Value::Moment(at))) => at.date(),
                _ => return self.refuse("TypeError", format!("{path} needs a date")),
            },
            [year, month, day] => match (year.integer(), month.integer(), day.integer()) {
                (Some(year), Some(month), Some(day)) => match date(year, month, day) {
                    Ok(date) => date,
                    Err(Refused { kind, message }) => return self.refuse(kind, message),
                },
                _ if parts.iter().any(Value::is_unknown) => return self.unread(path, call),
                _ => return self.refuse("TypeError", format!("{path} needs whole numbers")),
            },
        };
        if !(FIRST_DAY..=LAST_DAY).contains(&day) {
            return self.refuse(
                "ArgumentException",
                format!("{day} is outside the model's prices, {FIRST_DAY} to {LAST_DAY}"),
            );
        }
        if path == "set_start_date" {
            self.plan.start = day;
        } else {
            self.plan.end = day;
            self.end_is_set = true;
        }
        self.dates_set = Some(self.trace());
        Ok(Value::None)
    }

    /// `set_cash(amount)`, `set_cash("USD", amount)`
    fn set_cash(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let first = call.arguments.value(0, "starting_cash");
        let amount = match &first {
            Value::Text(currency) if currency.eq_ignore_ascii_case("USD") => {
                call.arguments.value(1, "starting_cash")
            }
            Value::Text(currency) if call.arguments.len() > 1 => {
                self.note_at(&format!("cash in {currency}"), call);
                return Ok(Value::None);
            }
            _ => first,
        };
        if amount.is_unknown() {
            return self.unread("set_cash", call);
        }
        match amount.number() {
            Some(cash) if cash > 0.0 && cash <= MAX_CASH => {
                self.plan.cash = cash;
                Ok(Value::None)
            }
            Some(cash) => self.refuse(
                "ArgumentException",
                format!("starting cash has to be above 0 and up to {MAX_CASH:e}, not {cash}"),
            ),
            None => {
                let message = format!("set_cash needs a number, not '{}'", amount.type_name());
                self.refuse("TypeError", message)
            }
        }
    }

    /// `add_security(SecurityType.EQUITY, "SPY", …)`
    fn add_by_type(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let kind = match call.arguments.value(0, "security_type") {
            Value::Path(path) => {
                let name = path.rsplit('.').next().unwrap_or_default();
                name.to_lowercase().parse().ok()
            }
            _ => None,
        };
        match kind {
            Some(kind) => self.add_security(kind, &call.arguments.value(1, "ticker"), call),
            None => {
                self.missed_subscription = true;
                self.unread("add_security of this type", call)
            }
        }
    }

    fn add_security(
        &mut self,
        kind: SecurityKind,
        ticker: &Value<'a>,
        call: &Call<'a>,
    ) -> Evaluated<'a> {
        let ticker = match ticker {
            Value::Text(ticker) => ticker.trim().to_uppercase(),
            Value::Path(path) if kind == SecurityKind::Future => {
                path.rsplit('.').next().unwrap_or_default().to_uppercase()
            }
            Value::Symbol(security) | Value::Security(security) => {
                return Ok(Value::Security(*security));
            }
            ticker if ticker.is_unknown() => {
                self.missed_subscription = true;
                return self.unread("a subscription with an unknown ticker", call);
            }
            ticker => {
                let message = format!("a ticker is a str, not '{}'", ticker.type_name());
                return self.refuse("TypeError", message);
            }
        };
        let length = ticker.chars().count();
        if length == 0 || length > 32 || ticker.chars().any(|c| c.is_control() || c == ' ') {
            let message = format!("{ticker:?} is not a ticker of 1 to 32 characters");
            return self.refuse("ArgumentException", message);
        }
        if let Some(known) = self.subscribed(&ticker) {
            return Ok(Value::Security(known));
        }
        if self.plan.securities.len() >= MAX_SECURITIES {
            let message = format!("the model has prices for at most {MAX_SECURITIES} securities");
            return self.refuse("ArgumentException", message);
        }
        let stated = call.arguments.all().find(|value| is_resolution(value));
        let daily = stated.map_or(self.default_resolution_daily, is_daily);
        if !daily {
            self.note("resolutions other than daily: all prices are daily");
        }
        self.plan.securities.push(Security { ticker, kind });
        Ok(Value::Security(self.plan.securities.len() - 1))
    }

    fn set_benchmark(&mut self, call: &Call<'a>) {
        let first = call.arguments.value(0, "symbol");
        let named = match (&first, call.arguments.get(1, "symbol")) {
            (Value::Path(_), Some(second)) => second.clone(),
            _ => first,
        };
        match self.display(&named) {
            Some(ticker) if !ticker.is_empty() && ticker.len() <= 32 => {
                self.plan.benchmark = ticker.to_uppercase();
            }
            _ => self.note_at("set_benchmark", call),
        }
    }

    /// `set_warm_up(bars)`, `set_warm_up(timedelta(…))`
    fn set_warm_up(&mut self, call: &Call<'a>) -> Evaluated<'a> {
        let given = call.arguments.value(0, "period");
        let given = match given {
            // `set_warm_up(time_span=…)`, `set_warm_up(bar_count=…)`
            Value::None => match call.arguments.keywords.first() {
                Some((_, value)) => value.clone(),
                None => given,
            },
            given => given,
        };
        let (number, unit) = match &given {
            Value::Span(seconds) => (Some(libm::ceil(seconds / 86_400.0)), "days"),
            value => (value.number(), "bars"),
        };
        let Some(number) = number else {
            return self.unread("set_warm_up", call);
        };
        let whole = whole(number).and_then(|number| u32::try_from(number).ok());
        match whole {
            Some(days) if days <= MAX_WARM_UP && unit == "days" => {
                self.plan.warm_up = WarmUp::Days(days)
            }
            Some(bars) if bars <= MAX_WARM_UP => self.plan.warm_up = WarmUp::Bars(bars),
            _ => {
                let message = format!("a warm-up has 0 to {MAX_WARM_UP} {unit}, not {number}");
                return self.refuse("ArgumentException", message);
            }
        }
        Ok(Value::None)
    }

    /// `self.sma(symbol, period, …)`, `self.ema(symbol, period, …)`
    fn average(&mut self, kind: AverageKind, call: &Call<'a>) -> Evaluated<'a> {
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
            let given = period.type_name();
            let message = format!("a moving average's period is an int, not '{given}'");
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
    fn register_indicator(&mut self, call: &Call<'a>) {
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
    fn set_holdings(&mut self, call: &Call<'a>) -> Evaluated<'a> {
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
        let argument = match &*call.path {
            "set_holdings" => "percentage",
            "PortfolioTarget" => "percent",
            _ => "target",
        };
        self.trade(&call.path, call, argument, Size::Weight)
    }

    /// A call with a symbol and a number of shares.
    fn trade_shares(&mut self, call: &Call<'a>, sign: f64) -> Evaluated<'a> {
        let size = |shares: f64| Size::Shares(libm::trunc(shares * sign));
        self.trade("the order", call, "quantity", size)
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

    fn trade(
        &mut self,
        path: &str,
        call: &Call<'a>,
        argument: &str,
        size: impl FnOnce(f64) -> Size,
    ) -> Evaluated<'a> {
        let amount = self.amount(path, call, &call.arguments.value(1, argument))?;
        let Some(size) = amount.map(size) else {
            return Ok(Value::Unknown);
        };
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

    /// The security that a symbol, security or ticker means: an error with its name if it was not
    /// subscribed to, `None` if the reader does not know which it is.
    pub(super) fn security_of(&self, value: &Value<'a>) -> Result<Option<usize>, String> {
        match value {
            Value::Symbol(security) | Value::Security(security) => Ok(Some(*security)),
            Value::Text(ticker) => {
                let ticker = ticker.trim().to_uppercase();
                self.subscribed(&ticker).map(Some).ok_or(ticker)
            }
            _ => Ok(None),
        }
    }

    fn subscribed(&self, ticker: &str) -> Option<usize> {
        let mut securities = self.plan.securities.iter();
        securities.position(|security| security.ticker == ticker)
    }
}

/// The methods whose effect the model would miss if they ran after `initialize`.
fn changes_the_plan(path: &str) -> bool {
    path.starts_with("add_")
        || (path.starts_with("set_") && path != "set_holdings")
        || path.ends_with("_order")
}

/// `Resolution.X`
fn is_resolution(value: &Value<'_>) -> bool {
    matches!(value, Value::Path(path) if path.starts_with("Resolution."))
}

/// `Resolution.DAILY`
fn is_daily(value: &Value<'_>) -> bool {
    matches!(value, Value::Path(path) if path.eq_ignore_ascii_case("Resolution.DAILY"))
}
