"""Tests of the arithmetic, without LEAN."""

import math
import random
import unittest

from spread import FLAT, LONG, SHORT, measure, next_side, weights


def prices(seed, length):
    """A random walk of prices."""
    generator = random.Random(seed)
    price = 100.0
    walk = []
    for _ in range(length):
        price *= math.exp(generator.gauss(0, 0.01))
        walk.append(price)
    return walk


class Measure(unittest.TestCase):
    def test_finds_the_hedge_that_made_the_prices(self):
        generator = random.Random(2)
        second = prices(1, 500)
        first = [3 * price**0.7 * math.exp(generator.gauss(0, 0.001)) for price in second]
        self.assertAlmostEqual(measure(first, second).hedge, 0.7, places=2)

    def test_the_score_is_that_of_the_last_prices(self):
        second = prices(3, 60)
        generator = random.Random(4)
        noise = [generator.gauss(0, 0.01) for _ in range(59)]
        rich = [b * math.exp(n) for b, n in zip(second, noise + [0.2])]
        poor = [b * math.exp(n) for b, n in zip(second, noise + [-0.2])]
        self.assertGreater(measure(rich, second).score, 3)
        self.assertLess(measure(poor, second).score, -3)

    def test_does_not_depend_on_the_unit_of_the_prices(self):
        first, second = prices(5, 80), [a * 1.1 for a in prices(5, 80)]
        second[7] *= 1.02
        one = measure(first, second)
        other = measure([100 * a for a in first], [b / 7 for b in second])
        self.assertAlmostEqual(one.hedge, other.hedge)
        self.assertAlmostEqual(one.score, other.score)

    def test_gives_nothing_where_nothing_can_be_fitted(self):
        rising = [float(number) for number in range(1, 40)]
        self.assertIsNone(measure([1.0, 2.0], [1.0, 2.0]))
        self.assertIsNone(measure(rising, [5.0] * 39))
        self.assertIsNone(measure(rising, rising))
        self.assertIsNone(measure(rising, rising[::-1]))
        self.assertIsNone(measure([0.0] + rising[1:], rising))
        with self.assertRaises(ValueError):
            measure([1.0], [1.0, 2.0])


class NextSide(unittest.TestCase):
    def after(self, side, score):
        return next_side(side, score, 2, 0.5, 4)

    def test_enters_against_the_spread(self):
        self.assertEqual(self.after(FLAT, 2.1), SHORT)
        self.assertEqual(self.after(FLAT, -2.1), LONG)
        self.assertEqual(self.after(FLAT, 1.9), FLAT)

    def test_does_not_enter_what_it_would_leave_at_once(self):
        self.assertEqual(self.after(FLAT, 4.5), FLAT)

    def test_leaves_when_the_spread_is_back_or_gone(self):
        self.assertEqual(self.after(SHORT, 1), SHORT)
        self.assertEqual(self.after(SHORT, 0.4), FLAT)
        self.assertEqual(self.after(SHORT, -3), FLAT)
        self.assertEqual(self.after(LONG, -1), LONG)
        self.assertEqual(self.after(LONG, -0.4), FLAT)
        self.assertEqual(self.after(LONG, -4), FLAT)

    def test_thresholds_ascend(self):
        with self.assertRaises(ValueError):
            next_side(FLAT, 0, 2, 2, 4)


class Weights(unittest.TestCase):
    def test_have_the_size_and_the_hedge_that_were_asked_for(self):
        first, second = weights(LONG, 0.5, 1.2)
        self.assertAlmostEqual(abs(first) + abs(second), 1.2)
        self.assertAlmostEqual(second / first, -0.5)
        self.assertEqual(weights(SHORT, 0.5, 1.2), (-first, -second))


if __name__ == "__main__":
    unittest.main()
