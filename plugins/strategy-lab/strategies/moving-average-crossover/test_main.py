"""Tests of the decision, without LEAN: a module in its place has the one name that is needed."""

import sys
import types
import unittest

lean = types.ModuleType("AlgorithmImports")
lean.QCAlgorithm = object
lean.Slice = object
sys.modules.setdefault("AlgorithmImports", lean)

from main import wants_to_hold  # noqa: E402


class WantsToHold(unittest.TestCase):
    def test_holds_above_and_not_below(self):
        for invested in (False, True):
            self.assertTrue(wants_to_hold(101, 100, invested, 0))
            self.assertFalse(wants_to_hold(99, 100, invested, 0))
            self.assertFalse(wants_to_hold(100, 100, invested, 0))

    def test_inside_the_band_nothing_changes(self):
        for fast in (98.5, 100, 101.5):
            self.assertTrue(wants_to_hold(fast, 100, True, 0.02))
            self.assertFalse(wants_to_hold(fast, 100, False, 0.02))
        self.assertTrue(wants_to_hold(102.5, 100, False, 0.02))
        self.assertFalse(wants_to_hold(97.5, 100, True, 0.02))


if __name__ == "__main__":
    unittest.main()
