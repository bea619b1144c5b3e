"""Equal contributions to risk, as plain functions: tested without LEAN."""

import math


def covariance(returns: list) -> list:
    """The sample covariance matrix of returns: a list for each security, all of one length."""
    count = len(returns[0])
    if count < 2 or any(len(column) != count for column in returns):
        raise ValueError("returns of one length, at least two for each security")
    means = [math.fsum(column) / count for column in returns]
    centred = [[it - mean for it in column] for column, mean in zip(returns, means)]
    return [[math.fsum(a * b for a, b in zip(x, y)) / (count - 1) for y in centred] for x in centred]


def equal_risk(matrix: list, rounds: int = 500) -> list | None:
    """Weights above 0 that sum to 1 and whose contributions to the variance are equal.

    Cyclical coordinate descent on x'Cx / 2 - sum(ln x), whose only minimum has equal contributions (Griveau-Billion, Richard
    and Roncalli, 2013). None where a security does not vary: no weight would give it a contribution.
    """
    size = len(matrix)
    if any(not row[index] > 0 for index, row in enumerate(matrix)):
        return None
    weights = [1 / math.sqrt(row[index]) for index, row in enumerate(matrix)]
    for _ in range(rounds):
        largest = 0.0
        for index, row in enumerate(matrix):
            others = math.fsum(row[other] * weights[other] for other in range(size) if other != index)
            variance = row[index]
            new = (-others + math.sqrt(others * others + 4 * variance)) / (2 * variance)
            largest = max(largest, abs(new / weights[index] - 1))
            weights[index] = new
        if largest < 1e-12:
            break
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def drifted(held: list, wanted: list, band: float) -> bool:
    """Whether a weight is further from the wanted one than the band."""
    return any(abs(a - b) > band for a, b in zip(held, wanted))
