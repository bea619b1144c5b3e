"""Buys falls in a rising market, and sells when the price is back at its mean.

Trades four exchange-traded funds of US shares, each with a part of its own. See README.md for the parameters.
"""

from AlgorithmImports import *

from reversion import ENTER, LEAVE, decide

TICKERS = ["SPY", "QQQ", "IWM", "DIA"]


class MeanReversion(QCAlgorithm):
    """A few days long after a fall; each fund on its own."""

    def initialize(self) -> None:
        """Set the period, the cash, and what each fund is compared with."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        lookback = self.get_parameter("lookback", 10)
        trend = self.get_parameter("trend", 200)
        self._entry = self.get_parameter("entry", 1.5)
        self._patience = self.get_parameter("patience", 10)
        # The parts are fixed: a fall of all funds at once, the most common kind, is no reason to hold more of each.
        self._weight = 1 / len(TICKERS)

        self._indicators = {}
        self._held = {}
        for ticker in TICKERS:
            symbol = self.add_equity(ticker, Resolution.DAILY).symbol
            self._indicators[symbol] = (
                self.sma(symbol, lookback, Resolution.DAILY),
                self.std(symbol, lookback, Resolution.DAILY),
                self.sma(symbol, trend, Resolution.DAILY),
            )
            self._held[symbol] = 0

        self.set_benchmark("SPY")
        self.set_warm_up(max(lookback, trend), Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        """Decide for each fund that has a bar; orders are filled at the next open."""
        if self.is_warming_up:
            return
        for symbol, (mean, deviation, trend) in self._indicators.items():
            if not trend.is_ready or not data.bars.contains_key(symbol):
                continue
            invested = self.portfolio[symbol].invested
            # Counted in bars, since a weekend is no time in which a price could come back.
            self._held[symbol] = self._held[symbol] + 1 if invested else 0
            decision = decide(
                data.bars[symbol].close,
                mean.current.value,
                deviation.current.value,
                trend.current.value,
                self._held[symbol],
                self._entry,
                self._patience,
            )
            if decision == ENTER:
                self.set_holdings(symbol, self._weight)
            elif decision == LEAVE:
                self.liquidate(symbol)
