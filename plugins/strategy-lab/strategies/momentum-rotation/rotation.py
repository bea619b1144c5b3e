"""The decisions of the rotation, as plain functions: tested without LEAN."""


def momentum(fast: float, slow: float) -> float:
    """How far the fast average is above the slow one, as a fraction of it.

    The ratio of averages instead of two single prices, so that one odd day does not change the ranking.
    """
    if slow <= 0:
        raise ValueError(f"an average of prices is above 0, not {slow}")
    return fast / slow - 1


def leaders(scores: dict, top: int) -> list:
    """The keys with the `top` highest scores, best first, without those that are falling.

    Equal scores are ordered by their keys' texts, so that the same prices give the same portfolio.
    """
    if top < 1:
        raise ValueError(f"at least one security is held, not {top}")
    rising = [key for key in scores if scores[key] > 0]
    return sorted(rising, key=lambda key: (-scores[key], str(key)))[:top]
