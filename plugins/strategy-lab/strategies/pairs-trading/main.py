"""Trades the spread of two shares that move together.

Sells what has become dear in terms of the other and buys the other, until the spread is back. See README.md for the
parameters.
"""

from collections import deque

from AlgorithmImports import *

from spread import FLAT, measure, next_side, weights


class PairsTrading(QCAlgorithm):
    """Long one, short the other; nearly no exposure to the market."""

    def initialize(self) -> None:
        """Set the period, the cash, the two shares and the windows of their closes."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        lookback = self.get_parameter("lookback", 60)
        self._entry = self.get_parameter("entry", 2.0)
        self._leave = self.get_parameter("leave", 0.5)
        self._stop = self.get_parameter("stop", 4.0)
        self._gross = self.get_parameter("gross", 1.0)

        self._first = self.add_equity("KO", Resolution.DAILY).symbol
        self._second = self.add_equity("PEP", Resolution.DAILY).symbol
        self._closes = {
            self._first: deque(maxlen=lookback),
            self._second: deque(maxlen=lookback),
        }
        self._lookback = lookback
        self._side = FLAT

        self.set_benchmark("SPY")
        self.set_warm_up(lookback, Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        """Take both closes, also while warming up, and change sides where the spread says so."""
        # A day with one of two prices would pair closes of different days from then on.
        if not data.bars.contains_key(self._first) or not data.bars.contains_key(self._second):
            return
        for symbol, closes in self._closes.items():
            closes.append(data.bars[symbol].close)
        if self.is_warming_up or len(self._closes[self._first]) < self._lookback:
            return

        spread = measure(list(self._closes[self._first]), list(self._closes[self._second]))
        # Where nothing can be fitted, there is no reason to be in the market either.
        side = FLAT if spread is None else next_side(self._side, spread.score, self._entry, self._leave, self._stop)
        if side == self._side:
            return
        self._side = side
        if side == FLAT:
            self.liquidate(self._first)
            self.liquidate(self._second)
            return
        first, second = weights(side, spread.hedge, self._gross)
        # The sizes stay as they are until the position is left: rebalancing daily would cost more than it hedges.
        self.set_holdings([PortfolioTarget(self._first, first), PortfolioTarget(self._second, second)])
