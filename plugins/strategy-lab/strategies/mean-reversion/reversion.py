"""The decisions of the mean reversion, as plain functions: tested without LEAN."""

ENTER = "enter"
LEAVE = "leave"
WAIT = "wait"


def distance(price: float, mean: float, deviation: float) -> float:
    """How many standard deviations a price is above its mean; 0 where prices do not vary."""
    return (price - mean) / deviation if deviation > 0 else 0.0


def decide(price: float, mean: float, deviation: float, trend: float, held: int, entry: float, patience: int) -> str:
    """What to do after a close.

    `held` is the number of days for which the position is held, 0 for none. Entered is a fall of `entry`
    standard deviations below the mean while the price is above its long average `trend`. Left is a price that has
    come back to the mean, a trend that has broken, or a position that did not come back for `patience` days.
    """
    if held > 0:
        done = price >= mean or price < trend or held >= patience
        return LEAVE if done else WAIT
    fallen = distance(price, mean, deviation) <= -entry
    return ENTER if fallen and price > trend else WAIT
