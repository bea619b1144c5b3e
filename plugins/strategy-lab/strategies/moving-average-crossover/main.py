"""Moving-average crossover on one US equity.

Holds the equity while its fast simple moving average of daily closes is above the slow one, and
cash otherwise. See README.md for the parameters.
"""

from AlgorithmImports import *


def wants_to_hold(fast: float, slow: float, invested: bool, band: float) -> bool:
    """Whether to hold the equity from the next open on.

    A position is opened only above the band around the slow average and closed only below it:
    inside, the averages cross back and forth, and each crossing would cost a trade.
    """
    if invested:
        return fast > slow * (1 - band)
    return fast > slow * (1 + band)


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
        self._band = self.get_parameter("band", 0.0)

        self._symbol = self.add_equity("SPY", Resolution.DAILY).symbol
        self._fast = self.sma(self._symbol, fast, Resolution.DAILY)
        self._slow = self.sma(self._symbol, slow, Resolution.DAILY)

        self.set_benchmark(self._symbol)
        # Without it the first trade would wait for as many days as the slow average is long.
        self.set_warm_up(max(fast, slow), Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        """Enter when the fast average is above the slow one, leave when it no longer is."""
        if self.is_warming_up or not self._slow.is_ready or not self._fast.is_ready:
            return

        fast = self._fast.current.value
        slow = self._slow.current.value
        invested = self.portfolio[self._symbol].invested
        hold = wants_to_hold(fast, slow, invested, self._band)
        if hold and not invested:
            self.set_holdings(self._symbol, 1)
        elif invested and not hold:
            self.liquidate(self._symbol)
