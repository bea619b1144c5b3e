"""Monthly rotation among asset classes by momentum.

Once a month it holds those of five exchange-traded funds that have risen most, in equal parts, and cash in
place of those that are falling. See README.md for the parameters.
"""

from AlgorithmImports import *

from rotation import leaders, momentum

# One fund for each: shares of the US, of other developed countries, long bonds, gold, and property.
TICKERS = ["SPY", "EFA", "TLT", "GLD", "VNQ"]


class MomentumRotation(QCAlgorithm):
    """The strongest few of a small universe, rebalanced monthly."""

    def initialize(self) -> None:
        """Set the period, the cash, and two averages of each fund."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        fast = self.get_parameter("fast", 20)
        slow = self.get_parameter("slow", 120)
        self._top = self.get_parameter("top", 3)
        # A part that is not invested stays in cash, instead of making the others larger.
        self._weight = 1 / self._top

        self._averages = {}
        for ticker in TICKERS:
            symbol = self.add_equity(ticker, Resolution.DAILY).symbol
            self._averages[symbol] = (
                self.sma(symbol, fast, Resolution.DAILY),
                self.sma(symbol, slow, Resolution.DAILY),
            )

        self.set_benchmark("SPY")
        self.set_warm_up(max(fast, slow), Resolution.DAILY)
        self._month = 0

    def on_data(self, data: Slice) -> None:
        """Rebalance on the first data of each month; the orders are filled at the next open."""
        if self.is_warming_up or self.time.month == self._month:
            return
        self._month = self.time.month

        # A fund without a bar today cannot be traded, and its averages are old.
        scores = {
            symbol: momentum(fast.current.value, slow.current.value)
            for symbol, (fast, slow) in self._averages.items()
            if fast.is_ready and slow.is_ready and data.bars.contains_key(symbol)
        }
        chosen = leaders(scores, self._top)
        leave = [PortfolioTarget(symbol, 0) for symbol in self._averages if symbol not in chosen]
        enter = [PortfolioTarget(symbol, self._weight) for symbol in self._averages if symbol in chosen]
        # In one call, so that LEAN sells before it buys.
        self.set_holdings(leave + enter)
