"""Equal contributions to risk of four asset classes.

Once a month it measures how four exchange-traded funds move, and holds each with such a part that all contribute alike to the
variance of the portfolio. See README.md for the parameters.
"""

from collections import deque

from AlgorithmImports import *

from parity import covariance, drifted, equal_risk

# Shares, long bonds, gold and inflation-linked bonds.
TICKERS = ["SPY", "TLT", "GLD", "TIP"]


class RiskParity(QCAlgorithm):
    """Always invested; the parts follow volatilities and correlations."""

    def initialize(self) -> None:
        """Set the period, the cash, the funds and the windows of their returns."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        self._lookback = self.get_parameter("lookback", 120)
        self._band = self.get_parameter("band", 0.02)

        self._symbols = [self.add_equity(ticker, Resolution.DAILY).symbol for ticker in TICKERS]
        self._returns = {symbol: deque(maxlen=self._lookback) for symbol in self._symbols}
        self._closes = {}

        self.set_benchmark("SPY")
        # One more close than returns.
        self.set_warm_up(self._lookback + 1, Resolution.DAILY)
        self._month = 0

    def on_data(self, data: Slice) -> None:
        """Take the returns of the day, also while warming up, and rebalance on the first data of each month."""
        # Returns are compared day by day, so a day counts only if all funds have a bar.
        if not all(data.bars.contains_key(symbol) for symbol in self._symbols):
            return
        for symbol in self._symbols:
            close = data.bars[symbol].close
            if symbol in self._closes:
                self._returns[symbol].append(close / self._closes[symbol] - 1)
            self._closes[symbol] = close
        if self.is_warming_up or self.time.month == self._month:
            return
        self._month = self.time.month

        weights = self._weights()
        if weights is None:
            # Nothing is known of the risks: equal parts are the neutral choice, and better than none.
            self.set_holdings([PortfolioTarget(symbol, 1 / len(TICKERS)) for symbol in self._symbols])
            return
        value = self.portfolio.total_portfolio_value
        held = [self.portfolio[symbol].holdings_value / value for symbol in self._symbols]
        # Small differences are noise of the estimate, and each correction would cost a trade.
        if drifted(held, weights, self._band):
            self.set_holdings([PortfolioTarget(symbol, weight) for symbol, weight in zip(self._symbols, weights)])

    def _weights(self) -> list | None:
        """The parts by the returns of the window; None until it is full."""
        returns = [list(self._returns[symbol]) for symbol in self._symbols]
        if any(len(column) < self._lookback for column in returns):
            return None
        return equal_risk(covariance(returns))
