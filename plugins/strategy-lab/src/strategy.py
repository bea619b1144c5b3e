"""Moving-average crossover on one US equity.

Holds the equity while its fast simple moving average of daily closes is above the slow one, and
cash otherwise. Two parameters, both in trading days, can be swept:

    fast    length of the fast average, 20 by default
    slow    length of the slow average, 100 by default

Two more set the period, so that windows can be tried one after the other:

    start   first day, 2018-01-01 by default
    end     last day, 2022-12-31 by default
"""

from AlgorithmImports import *


class MovingAverageCrossover(QCAlgorithm):
    """Long above, flat below; one position at a time."""

    def initialize(self) -> None:
        """Set the period, the cash, the equity and its two averages."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        fast = self.get_parameter("fast", 20)
        slow = self.get_parameter("slow", 100)

        self._symbol = self.add_equity("SPY", Resolution.DAILY).symbol
        self._fast = self.sma(self._symbol, fast, Resolution.DAILY)
        self._slow = self.sma(self._symbol, slow, Resolution.DAILY)

        self.set_benchmark(self._symbol)
        self.set_warm_up(max(fast, slow), Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        """Enter when the fast average is above the slow one, leave when it no longer is."""
        if self.is_warming_up or not self._slow.is_ready or not self._fast.is_ready:
            return

        rising = self._fast.current.value > self._slow.current.value
        invested = self.portfolio[self._symbol].invested
        if rising and not invested:
            self.set_holdings(self._symbol, 1)
        elif invested and not rising:
            self.liquidate(self._symbol)
