"""Tests of the decisions, without LEAN."""

import random
import unittest

from rotation import leaders, momentum


class Momentum(unittest.TestCase):
    def test_is_the_distance_of_the_averages(self):
        self.assertAlmostEqual(momentum(110, 100), 0.1)
        self.assertAlmostEqual(momentum(90, 100), -0.1)

    def test_needs_a_price(self):
        with self.assertRaises(ValueError):
            momentum(1, 0)


class Leaders(unittest.TestCase):
    def test_the_strongest_come_first(self):
        scores = {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.05}
        self.assertEqual(leaders(scores, 2), ["b", "c"])

    def test_what_falls_is_not_held(self):
        self.assertEqual(leaders({"a": -0.1, "b": 0.0, "c": 0.2}, 3), ["c"])
        self.assertEqual(leaders({}, 3), [])

    def test_the_order_of_the_scores_does_not_matter(self):
        generator = random.Random(1)
        keys = [f"k{number}" for number in range(8)]
        for _ in range(200):
            scores = {key: generator.choice([-0.1, 0.1, 0.2]) for key in keys}
            shuffled = list(scores.items())
            generator.shuffle(shuffled)
            self.assertEqual(leaders(scores, 3), leaders(dict(shuffled), 3))

    def test_a_portfolio_of_nothing_is_refused(self):
        with self.assertRaises(ValueError):
            leaders({"a": 0.1}, 0)


if __name__ == "__main__":
    unittest.main()
