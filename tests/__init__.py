"""Tests through public interfaces. Imported before NumPy and torch, which read the environment on import."""

import os

# Test files run in parallel, so extra threads only contend for cores; one thread halves the CPU time of training.
os.environ.setdefault("OMP_NUM_THREADS", "1")
