"""Tests of the weights, without LEAN."""

import random
import unittest

from parity import covariance, drifted, equal_risk


def contributions(matrix, weights):
    """What each security contributes to the variance."""
    size = range(len(weights))
    return [weights[i] * sum(matrix[i][j] * weights[j] for j in size) for i in size]


class Covariance(unittest.TestCase):
    def test_is_that_of_the_sample(self):
        found = covariance([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
        self.assertEqual(found, [[1.0, 2.0], [2.0, 4.0]])

    def test_needs_returns_of_one_length(self):
        for returns in ([[1.0]], [[1.0, 2.0], [1.0]]):
            with self.assertRaises(ValueError):
                covariance(returns)


class EqualRisk(unittest.TestCase):
    def test_without_correlation_it_is_inverse_volatility(self):
        weights = equal_risk([[0.04, 0.0], [0.0, 0.01]])
        self.assertAlmostEqual(weights[0], 1 / 3)
        self.assertAlmostEqual(weights[1], 2 / 3)

    def test_contributions_are_equal_for_any_returns(self):
        generator = random.Random(1)
        for _ in range(50):
            market = [generator.gauss(0, 0.01) for _ in range(120)]
            returns = []
            for _ in range(4):
                beta, noise = generator.uniform(-0.4, 1.5), generator.uniform(0.002, 0.02)
                returns.append([beta * it + generator.gauss(0, noise) for it in market])
            matrix = covariance(returns)
            weights = equal_risk(matrix)
            self.assertAlmostEqual(sum(weights), 1)
            self.assertGreater(min(weights), 0)
            parts = contributions(matrix, weights)
            for part in parts:
                self.assertAlmostEqual(part / sum(parts), 1 / 4, places=8)

    def test_a_security_that_does_not_vary_has_no_weight(self):
        self.assertIsNone(equal_risk([[0.0, 0.0], [0.0, 0.01]]))
        self.assertIsNone(equal_risk([[float("nan"), 0.0], [0.0, 0.01]]))


class Drifted(unittest.TestCase):
    def test_is_a_weight_beyond_the_band(self):
        self.assertFalse(drifted([0.5, 0.5], [0.51, 0.49], 0.02))
        self.assertTrue(drifted([0.5, 0.5], [0.53, 0.47], 0.02))


if __name__ == "__main__":
    unittest.main()
