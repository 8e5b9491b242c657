"""Speed and size, each figure beside the floor that it cannot go below: `python -m benchmarks`.

What is compared is measured in one run, in turns, so that a machine that others use too slows both
sides alike. Ratios are taken within a round; a figure is the median over the rounds, with the extremes.
"""
