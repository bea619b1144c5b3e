"""Buys new highs and sells new lows, while the longer trend is up.

A channel of highs and lows (Donchian's) on four exchange-traded funds, each with a part of its own. See README.md for the
parameters.
"""

from AlgorithmImports import *

from channel import ENTER, LEAVE, Channel

# Shares, long bonds, gold and oil: breakouts of one rarely come with those of another.
TICKERS = ["SPY", "TLT", "GLD", "USO"]


class ChannelBreakout(QCAlgorithm):
    """Long above the channel, flat below it; each fund on its own."""

    def initialize(self) -> None:
        """Set the period, the cash, and a channel and two averages of each fund."""
        start = self.get_parameter("start", "2018-01-01")
        end = self.get_parameter("end", "2022-12-31")
        self.set_start_date(datetime.strptime(start, "%Y-%m-%d"))
        self.set_end_date(datetime.strptime(end, "%Y-%m-%d"))
        self.set_cash(100_000)

        entry = self.get_parameter("entry", 40)
        leave = self.get_parameter("leave", 20)
        fast = self.get_parameter("fast", 25)
        slow = self.get_parameter("slow", 150)
        self._weight = 1 / len(TICKERS)

        self._channels = {}
        self._averages = {}
        for ticker in TICKERS:
            symbol = self.add_equity(ticker, Resolution.DAILY).symbol
            self._channels[symbol] = Channel(entry, leave)
            self._averages[symbol] = (
                self.sma(symbol, fast, Resolution.DAILY),
                self.sma(symbol, slow, Resolution.DAILY),
            )

        self.set_benchmark("SPY")
        self.set_warm_up(max(entry, leave, fast, slow), Resolution.DAILY)

    def on_data(self, data: Slice) -> None:
        """Decide for each fund by the bars before today's, then add today's."""
        for symbol, channel in self._channels.items():
            if not data.bars.contains_key(symbol):
                continue
            bar = data.bars[symbol]
            fast, slow = self._averages[symbol]
            if not self.is_warming_up and slow.is_ready:
                rising = fast.current.value > slow.current.value
                decision = channel.decide(bar.close, self.portfolio[symbol].invested, rising)
                if decision == ENTER:
                    self.set_holdings(symbol, self._weight)
                elif decision == LEAVE:
                    self.liquidate(symbol)
            # Also while warming up: the channel is complete on the first day.
            channel.add(bar.high, bar.low)
