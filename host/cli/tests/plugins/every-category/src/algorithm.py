"""An algorithm for tests: it trades often, writes a log and can be made to fail."""

from AlgorithmImports import *


class Pendulum(QCAlgorithm):
    """Long while the fast average is above the slow one."""

    def initialize(self) -> None:
        """Divide by a parameter: 0 makes the algorithm fail here."""
        self.set_start_date(2021, 1, 1)
        self.set_end_date(2021, 12, 31)
        self.set_cash(50_000)
        self.scale = 1 / self.get_parameter("divisor", 1)
        self._symbol = self.add_equity("SPY", Resolution.DAILY).symbol
        self._fast = self.sma(self._symbol, self.get_parameter("fast", 2), Resolution.DAILY)
        self._slow = self.sma(self._symbol, self.get_parameter("slow", 5), Resolution.DAILY)
        self.log("initialized")

    def on_data(self, data: Slice) -> None:
        """Trade at every crossing."""
        if not self._slow.is_ready:
            return
        if self._fast.current.value > self._slow.current.value:
            self.set_holdings(self._symbol, 1)
        else:
            self.liquidate(self._symbol)
