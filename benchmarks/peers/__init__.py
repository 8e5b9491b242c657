"""sceneseek beside programs of the same kind; see `python -m benchmarks.peers --help`."""
