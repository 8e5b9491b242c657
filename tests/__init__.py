"""Tests by the public seams. Imported before NumPy and torch, which read the environment once."""

import os

# Files run side by side, so more threads than one only wait for each other: half the processor time of training.
os.environ.setdefault("OMP_NUM_THREADS", "1")
