"""Tests of the channel, without LEAN."""

import random
import unittest

from channel import ENTER, LEAVE, WAIT, Channel


def filled(bars, entry=3, leave=2):
    """A channel that has seen bars of high and low."""
    channel = Channel(entry, leave)
    for high, low in bars:
        channel.add(high, low)
    return channel


BARS = [(10, 8), (12, 9), (11, 7)]


class TheChannel(unittest.TestCase):
    def test_waits_until_it_is_full(self):
        channel = filled(BARS[:2])
        self.assertFalse(channel.is_ready)
        self.assertEqual(channel.decide(99, False, True), WAIT)
        self.assertEqual(channel.decide(1, True, True), WAIT)

    def test_enters_above_all_highs_of_a_rising_market(self):
        channel = filled(BARS)
        self.assertEqual(channel.decide(12.1, False, True), ENTER)
        self.assertEqual(channel.decide(12, False, True), WAIT)
        self.assertEqual(channel.decide(12.1, False, False), WAIT)
        self.assertEqual(channel.decide(12.1, True, True), WAIT)

    def test_leaves_below_the_lows_of_its_own_window(self):
        channel = filled([(10, 1), (12, 9), (11, 7)])
        self.assertEqual(channel.decide(6.9, True, True), LEAVE)
        self.assertEqual(channel.decide(7, True, True), WAIT)
        self.assertEqual(channel.decide(6.9, True, False), LEAVE)

    def test_the_oldest_bar_is_dropped(self):
        channel = filled(BARS)
        channel.add(11, 8)
        channel.add(10, 8)
        self.assertEqual(channel.decide(11.5, False, True), ENTER)

    def test_a_close_inside_its_bars_never_decides_anything(self):
        generator = random.Random(1)
        for _ in range(200):
            channel = filled([(generator.uniform(100, 110), generator.uniform(90, 100)) for _ in range(3)])
            for invested in (False, True):
                self.assertEqual(channel.decide(100, invested, True), WAIT)

    def test_a_channel_has_bars(self):
        for lengths in ((0, 1), (1, 0)):
            with self.assertRaises(ValueError):
                Channel(*lengths)


if __name__ == "__main__":
    unittest.main()
