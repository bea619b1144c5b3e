"""The channel of highs and lows, and the decisions that follow from it: tested without LEAN."""

from collections import deque

ENTER = "enter"
LEAVE = "leave"
WAIT = "wait"


class Channel:
    """The highest high and the lowest low of the last bars, those before the present one."""

    def __init__(self, entry: int, leave: int) -> None:
        """Keep `entry` highs and `leave` lows."""
        if entry < 1 or leave < 1:
            raise ValueError(f"a channel has at least one bar, not {entry} and {leave}")
        self._entry = entry
        self._leave = leave
        self._highs = deque(maxlen=entry)
        self._lows = deque(maxlen=leave)

    @property
    def is_ready(self) -> bool:
        """Whether it has seen as many bars as it keeps."""
        return len(self._highs) == self._entry and len(self._lows) == self._leave

    def decide(self, close: float, invested: bool, rising: bool) -> str:
        """What to do after a close, before its bar is added: a bar never breaks out of itself.

        Entered is a close above all highs, if the market is rising; left is a close below all lows, in any market.
        """
        if not self.is_ready:
            return WAIT
        if invested:
            return LEAVE if close < min(self._lows) else WAIT
        return ENTER if rising and close > max(self._highs) else WAIT

    def add(self, high: float, low: float) -> None:
        """Take the bar into the channel, and drop the oldest."""
        self._highs.append(high)
        self._lows.append(low)
