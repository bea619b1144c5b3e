"""Tests of the decisions, without LEAN."""

import unittest

from reversion import ENTER, LEAVE, WAIT, decide, distance


def after(price, held=0, trend=80, deviation=2.0):
    """A decision where the mean is 100, an entry takes 1.5 deviations, and patience lasts 5 days."""
    return decide(price, 100, deviation, trend, held, 1.5, 5)


class Distance(unittest.TestCase):
    def test_is_in_standard_deviations(self):
        self.assertEqual(distance(97, 100, 2), -1.5)
        self.assertEqual(distance(104, 100, 2), 2)

    def test_constant_prices_are_no_signal(self):
        self.assertEqual(distance(100, 100, 0), 0)


class Decide(unittest.TestCase):
    def test_a_fall_in_a_rising_market_is_bought(self):
        self.assertEqual(after(97), ENTER)
        self.assertEqual(after(97.1), WAIT)

    def test_a_fall_in_a_falling_market_is_not(self):
        self.assertEqual(after(97, trend=98), WAIT)

    def test_a_position_is_left_at_the_mean(self):
        self.assertEqual(after(99.9, held=1), WAIT)
        self.assertEqual(after(100, held=1), LEAVE)

    def test_a_position_is_left_where_the_idea_was_wrong(self):
        self.assertEqual(after(95, held=4), WAIT)
        self.assertEqual(after(95, held=5), LEAVE)
        self.assertEqual(after(95, held=1, trend=96), LEAVE)

    def test_constant_prices_do_nothing(self):
        self.assertEqual(decide(100, 100, 0, 80, 0, 1.5, 5), WAIT)


if __name__ == "__main__":
    unittest.main()
