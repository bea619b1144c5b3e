"""The arithmetic of the pair, as plain functions: tested without LEAN."""

import math
from typing import NamedTuple

LONG = 1
FLAT = 0
SHORT = -1


class Spread(NamedTuple):
    """How the first security stands to the second."""

    hedge: float
    """How many dollars of the second move like a dollar of the first."""
    score: float
    """How many standard deviations the first is above what the second explains."""


def measure(first: list, second: list) -> Spread | None:
    """Fits log prices of the first security to those of the second by least squares, and measures the last one.

    None where nothing can be fitted: too few prices, prices that do not vary, or securities that move against each other,
    which are no pair.
    """
    count = len(first)
    if count != len(second):
        raise ValueError(f"{count} prices of one security and {len(second)} of the other")
    if count < 3 or min(first) <= 0 or min(second) <= 0:
        return None
    y = [math.log(price) for price in first]
    x = [math.log(price) for price in second]
    mean_y = math.fsum(y) / count
    mean_x = math.fsum(x) / count
    variance = math.fsum((it - mean_x) ** 2 for it in x)
    if variance <= 0:
        return None
    covariance = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    hedge = covariance / variance
    if hedge <= 0:
        return None
    residuals = [(b - mean_y) - hedge * (a - mean_x) for a, b in zip(x, y)]
    # Two degrees of freedom are spent on the fit.
    deviation = math.sqrt(math.fsum(it * it for it in residuals) / (count - 2))
    # What is left of a perfect fit is rounding.
    if deviation < 1e-12:
        return None
    return Spread(hedge, residuals[-1] / deviation)


def next_side(side: int, score: float, entry: float, leave: float, stop: float) -> int:
    """Which side of the spread to hold: long, short or none.

    A position is opened between `entry` and `stop` and left at `leave`, or at `stop`, where the two have parted for good. A
    change of sides goes through none.
    """
    if not leave < entry < stop:
        raise ValueError(f"leave {leave}, entry {entry} and stop {stop} do not ascend")
    if side == FLAT:
        if entry <= abs(score) < stop:
            return SHORT if score > 0 else LONG
        return FLAT
    gone = abs(score) >= stop
    reached = score * side >= -leave
    return FLAT if gone or reached else side


def weights(side: int, hedge: float, gross: float) -> tuple:
    """Shares of the equity in the first and the second security, which together are `gross` in size."""
    first = side * gross / (1 + hedge)
    return first, -first * hedge
