"""Benchmarks of speed and size: `python -m benchmarks`. Many figures have a floor, a bound that they cannot go below.

What is compared is measured in one run, interleaved, so that other load on the machine slows both sides alike. Ratios
are taken within a round; a figure is the median over the rounds, with the extremes.
"""
